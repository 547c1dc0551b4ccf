"""What a format leaves out and the user adds on the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NoReturn

from simulator.errors import Diagnostic, InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts that no file of the format states; None where the user gave none.

    Parameters
    ----------
    device : str or None
        The device kind: one of the shipped topologies (``A100-SXM-80GB``), or ``FILE:KIND``.
    node : str or None
        A topology file or preset whose `node` every host is.
    nodes : int or None
        How many equal nodes a switch joins.
    oversubscription : float or None
        What enters a switch from below over what leaves it upwards.
    pcie_bandwidth, nic_bandwidth, nvlink_bandwidth : float or None
        Bytes/s per direction of one slot, of one port of a network card, and of one NVLink.
    links : Mapping[str, tuple[float, float]]
        Bytes/s and seconds of each link class, by its name in the file.
    """

    device: str | None = None
    node: str | None = None
    nodes: int | None = None
    oversubscription: float | None = None
    pcie_bandwidth: float | None = None
    nic_bandwidth: float | None = None
    nvlink_bandwidth: float | None = None
    links: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def given(self) -> list[str]:
        """Names of the facts that the user gave."""
        return [each.name for each in fields(self) if getattr(self, each.name)]


def refuse(location: str, message: str, hint: str = "", key: str = "") -> NoReturn:
    """Raise an `InputError` with one diagnostic."""
    raise InputError([Diagnostic(location, key, message, hint)])
