"""Times as users and monitors write them."""

from __future__ import annotations

import time

import pytest

from plugrun.errors import InvalidArgument
from plugrun.times import parse_duration, parse_timestamp, parse_when

NOW = 1_700_000_000_000_000_000
DAY = 86_400_000_000_000


@pytest.fixture(autouse=True)
def in_another_zone(monkeypatch):
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-02T00:00:00Z", DAY),
        ("1970-01-02T00:00:00.000000001Z", DAY + 1),
        ("1970-01-02T09:00:00+09:00", DAY),
        ("1970-01-02T09:00:00", DAY),
        ("1970-01-02 09:00", DAY),
        ("1970-01-02", DAY - 9 * 3600 * 10**9),
        ("1970-01-02T09", DAY),
        ("86400", DAY),
        ("86400.000000001", DAY + 1),
        ("86400.5", DAY + 500_000_000),
        ("10m", NOW - 600 * 10**9),
        ("1h30m", NOW - 5400 * 10**9),
        ("1.5h", NOW - 5400 * 10**9),
        ("100ms", NOW - 10**8),
        ("0s", NOW),
    ],
)
def test_points_in_time(text, nanoseconds):
    assert parse_when(text, now=NOW) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "10x",
        "-10m",
        "1970-13-01",
        "1970-01-02T25:00:00Z",
        "2026-01-31T10:00:00+25:00",
        "1h ",
        "10mm5",
        "1" * 400,
        "99999999999999999",
        "١٢٣",
        "1e3",
        "0x10",
        "1970-01-02T00:00:00.1234567891Z",
    ],
)
def test_what_is_none(text):
    with pytest.raises(InvalidArgument):
        parse_when(text)


def test_durations():
    assert parse_duration("1h2m3s4ms5us6ns") == 3723_004_005_006
    assert parse_duration("1µs") == 1000
    with pytest.raises(InvalidArgument, match="'10'"):
        parse_duration("10")


def test_what_monitors_write():
    assert parse_timestamp("2026-11-23T23:31:14.740838159+00:00") == 1_795_476_674_740_838_159
    assert parse_timestamp("nonsense") is None
