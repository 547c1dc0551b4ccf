"""Units in, units out: exact values, refusals with a way out, and round trips."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.units import (
    format_bandwidth,
    format_bytes,
    format_count,
    format_flop,
    format_flop_rate,
    format_percent,
    format_seconds,
    parse_bandwidth,
    parse_bytes,
    parse_flop_rate,
    parse_fraction,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_bytes, "80 GiB", 80 * 2**30),
        (parse_bytes, "80GiB", 80 * 2**30),
        (parse_bytes, "40 GB", 40e9),
        (parse_bytes, "512 B", 512),
        (parse_bytes, "1e-3 GB", 1e6),
        (parse_bytes, "3 EiB", 3 * 2**60),
        (parse_bytes, "-5 kB", -5000),
        (parse_bandwidth, "400 Gb/s", 5e10),
        (parse_bandwidth, "400 Gbit/s", 5e10),
        (parse_bandwidth, "400 Gbps", 5e10),
        (parse_bandwidth, "450 GB/s", 4.5e11),
        (parse_bandwidth, "3 KiB/s", 3072),
        (parse_seconds, "1.5 us", 1.5e-6),
        (parse_seconds, "1.5 µs", 1.5e-6),
        (parse_seconds, "0.9 us", 0.9e-6),
        (parse_seconds, "0 s", 0),
        (parse_seconds, "5 min", 300),
        (parse_seconds, "2 d", 172800),
        (parse_flop_rate, "312 TFLOP/s", 312e12),
        (parse_flop_rate, "312 TFLOPS", 312e12),
        (parse_fraction, "80%", 0.8),
        (parse_fraction, " 2.5 % ", 0.025),
    ],
)
def test_values_are_exact(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_bandwidth, "400 gb/s", '"400 gb/s" is not a rate; write 400 Gb/s (bits) or 50 GB/s (bytes)'),
        (parse_bandwidth, "100 mb/s", '"100 mb/s" is not a rate; write 100 Gb/s (bits) or 12.5 GB/s (bytes)'),
        (parse_bandwidth, "400", '"400" has no unit; write 400 Gb/s (bits) or 50 GB/s (bytes)'),
        (parse_bandwidth, "50 GB", '"50 GB" is not a rate; write 50 Gb/s (bits) or 6.25 GB/s (bytes)'),
        (parse_bytes, "80 gb", '"80 gb" is not a size; write 80 GB (10^9 bytes) or 80 GiB (2^30 bytes)'),
        (parse_bytes, "40 mB", '"40 mB" is not a size; write 40 GB (10^9 bytes) or 40 GiB (2^30 bytes)'),
        (parse_bytes, "5 kiB", '"5 kiB" is not a size; write 5 GB (10^9 bytes) or 5 GiB (2^30 bytes)'),
        (parse_bytes, "50000000000", '"50000000000" has no unit; write 80 GB (10^9 bytes) or 80 GiB (2^30 bytes)'),
        (parse_bytes, "1e400 GB", '"1e400 GB" is not finite; write 80 GB (10^9 bytes) or 80 GiB (2^30 bytes)'),
        (parse_seconds, "5 sec", '"5 sec" is not a time; write 5 us, 5 ms or 5 s'),
        (parse_seconds, "fast", '"fast" is not a time; write 1.5 us, 1.5 ms or 1.5 s'),
        (parse_flop_rate, "312 TF", '"312 TF" is not a compute rate; write 312 TFLOP/s'),
        (parse_fraction, "0.8", '"0.8" has no unit; write 80%, with the percent sign'),
        (parse_fraction, "25", '"25" has no unit; write 25%, with the percent sign'),
        (parse_fraction, "25 pct", '"25 pct" is not a percentage; write 25%, with the percent sign'),
        (parse_fraction, "much", '"much" is not a percentage; write 80%, with the percent sign'),
    ],
)
def test_refusals_say_what_to_write(parse, text, message):
    with pytest.raises(ValueError) as refused:
        parse(text)
    assert str(refused.value) == message


@pytest.mark.parametrize("parse", [parse_bytes, parse_bandwidth, parse_seconds, parse_flop_rate, parse_fraction])
@pytest.mark.parametrize("text", ["", " ", "nan", "inf", "-inf GB", "1,000 GB", "1_000 s", "٣ s", "9" * 10**6, "5 in"])
def test_what_is_no_quantity_is_refused_by_all(parse, text):
    with pytest.raises(ValueError, match="; write ") as refused:
        parse(text)
    assert len(str(refused.value)) < 160


@given(st.text(max_size=60))
def test_any_text_is_a_finite_number_or_refused(text):
    for parse in (parse_bytes, parse_bandwidth, parse_seconds, parse_flop_rate, parse_fraction):
        try:
            assert math.isfinite(parse(text))
        except ValueError as refused:
            assert "; write " in str(refused)


@pytest.mark.parametrize(
    ("format_", "value", "text"),
    [
        (format_seconds, 3.8421, "3.842 s"),
        (format_seconds, 1.5e-6, "1.5 us"),
        (format_seconds, 0, "0 s"),
        (format_seconds, 119, "119 s"),
        (format_seconds, 600, "10 min"),
        (format_seconds, 1e5, "27.78 h"),
        (format_seconds, 1e6, "11.57 d"),
        (format_seconds, -0.002, "-2 ms"),
        (format_seconds, math.inf, "inf s"),
        (format_bytes, 71.2 * 2**30, "71.2 GiB"),
        (format_bytes, 512, "512 B"),
        (format_bytes, 0, "0 B"),
        (format_bandwidth, 4.5e11, "450 GB/s"),
        (format_bandwidth, 0.25, "0.25 B/s"),
        (format_flop, 21.4e12, "21.4 TFLOP"),
        (format_flop_rate, 989e12, "989 TFLOP/s"),
        (format_flop_rate, 3.1e18, "3.1 EFLOP/s"),
        (format_count, 68300, "68.3 k"),
        (format_count, 70.6e9, "70.6 G"),
        (format_count, 512, "512"),
        (format_count, 0.5, "0.5"),
        (format_percent, 0.417, "41.7 %"),
        (format_percent, 12.3, "1230 %"),
    ],
)
def test_shown_with_a_unit(format_, value, text):
    assert format_(value) == text


def test_signed_percent():
    assert format_percent(0.032, signed=True) == "+3.2 %"
    assert format_percent(-0.032, signed=True) == "-3.2 %"


@pytest.mark.parametrize(
    ("parse", "format_", "largest"),
    [
        (parse_seconds, format_seconds, 1e9),
        (parse_bytes, format_bytes, 2**69),
        (parse_bandwidth, format_bandwidth, 1e20),
        (parse_flop_rate, format_flop_rate, 1e20),
    ],
)
@given(data=st.data())
def test_what_is_shown_can_be_read_again(parse, format_, largest, data):
    value = data.draw(st.floats(1e-9 if parse is parse_seconds else 1, largest))
    assert parse(format_(value)) == pytest.approx(value, rel=1e-3)
