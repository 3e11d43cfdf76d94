from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.errors import UsageError
from regpush.quantities import LAST_SECOND, Link, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("50MB", 50_000_000),
        ("50mb", 50_000_000),
        ("50M", 50_000_000),
        ("1.5GB", 1_500_000_000),
        ("1.0005kB", None),
        ("512KiB", 524_288),
        ("512 KiB", 524_288),
        ("2TiB", 2 << 40),
        ("-1", None),
        ("", None),
        ("MB", None),
        ("5 megabytes", None),
        ("\N{ARABIC-INDIC DIGIT FIVE}MB", None),
    ],
)
def test_sizes(text, size):
    if size is None:
        with pytest.raises(UsageError, match="such as 50MB"):
            parse_size(text)
    else:
        assert parse_size(text) == size


# By GNU date: date -u -d TEXT +%s.
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1000000000", 1_000_000_000),
        ("253402300799", LAST_SECOND),
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-29T10:00:00Z", 1_795_946_400),
        ("2026-11-29T10:00:00-00:00", 1_795_946_400),
        ("2026-11-29t10:00:00z", 1_795_946_400),
        ("2026-11-29 10:00:00Z", 1_795_946_400),
        ("2026-11-29T10:00:00+05:45", 1_795_925_700),
        ("2026-11-29T10:00:00-23:59", 1_796_032_740),
        ("2026-11-29T10:00:00.999999999999Z", 1_795_946_400),
        ("2024-02-29T23:59:59.5+00:00", 1_709_251_199),
        ("9999-12-31T23:59:59Z", LAST_SECOND),
        ("9999-12-31T23:59:59+00:01", LAST_SECOND - 60),
        ("1969-12-31T23:00:00-01:00", 0),
    ],
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-29", "say 2026-11-29T00:00:00Z"),
        ("2026-11-29T10:00:00", "no offset from UTC; say 2026-11-29T10:00:00Z"),
        ("2026-11-29 10:00:00.5", "no offset from UTC; say 2026-11-29 10:00:00.5Z"),
        ("2026-11-29T10:00Z", "such as 2026"),
        ("2026-11-29T10:00:00+0100", "such as 2026"),
        ("2026-11-29T10:00:00,5Z", "such as 2026"),
        ("2026-11-29T24:00:00Z", "such as 2026"),
        ("2026-12-31T23:59:60Z", "such as 2026"),
        ("2026-11-29T10:00:00+24:00", "such as 2026"),
        ("20261129T100000Z", "such as 2026"),
        ("2026-02-29T10:00:00Z", "day"),
        ("2026-13-01T10:00:00Z", "month"),
        ("1969-12-31T23:59:59Z", "from 1970 to 9999"),
        ("0000-01-01T00:00:00Z", "year"),
        ("0001-01-01T00:00:00+23:59", "from 1970 to 9999"),
        ("9999-12-31T23:59:59-00:01", "from 1970 to 9999"),
        ("253402300800", "from 1970 to 9999"),
        ("-1", "such as 2026"),
        ("1.5", "such as 2026"),
        ("", "such as 2026"),
        ("now", "such as 2026"),
        ("2026-11-29T10:00:00Z\n", "such as 2026"),
        ("\N{ARABIC-INDIC DIGIT FIVE}", "such as 2026"),
    ],
)
def test_what_is_no_time(text, said):
    with pytest.raises(UsageError) as raised:
        parse_time(text)
    assert said in str(raised.value)


@given(st.integers(0, LAST_SECOND), st.integers(-1439, 1439))
@settings(deadline=None)
def test_times_that_python_writes(seconds, minutes):
    zone = timezone(timedelta(minutes=minutes))
    try:
        text = datetime.fromtimestamp(seconds, zone).isoformat()
    except (OverflowError, ValueError):  # beyond the years that a datetime holds
        return
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "rate", "said"),
    [
        ("100mbit", 100_000_000, "100 Mbit/s"),
        ("100Mbit/s", 100_000_000, "100 Mbit/s"),
        ("2.5gbit", 2_500_000_000, "2.5 Gbit/s"),
        ("56kbit", 56_000, "56 kbit/s"),
        ("800bit", 800, "800 bit/s"),
    ],
)
def test_links(text, rate, said):
    link = Link.parse(text)
    assert link.bits_per_second == rate
    assert str(link) == said
    assert link.seconds(rate // 8) == 1


@pytest.mark.parametrize("text", ["100", "100MB", "mbit", "0mbit", "-1mbit", "fast"])
def test_no_link(text):
    with pytest.raises(UsageError, match="such as 100mbit"):
        Link.parse(text)
