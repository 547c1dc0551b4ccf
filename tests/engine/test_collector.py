"""The garbage collector is paused while a plan is compiled and simulated, and left as it was found."""

import gc

from simulator.collector import paused_collector


def test_it_is_left_as_it_was_found() -> None:
    assert gc.isenabled()
    with paused_collector():
        assert not gc.isenabled()
        with paused_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
