import pytest

from regpush.errors import UsageError
from regpush.quantities import Link, parse_size


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
