"""`etc/profile` as Guix writes it: guix/search-paths.scm, guix/build/profiles.scm."""

import pytest

from regpush.closure import SearchPath, Side
from regpush.sources.etc_profile import parse

P = "/gnu/store/82zs18pmmpw7wvj676cn0wfga08mvy5z-profile"
IT = f"${{GUIX_PROFILE:-{P}}}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f'export PATH="{IT}/bin${{PATH:+:}}$PATH"', SearchPath("PATH", f"{P}/bin")),
        (
            f'export PATH="{IT}/bin:{IT}/sbin${{PATH:+:}}$PATH"',
            SearchPath("PATH", f"{P}/bin:{P}/sbin"),
        ),
        (
            f'export CURL="{IT}/etc/x.pem"',
            SearchPath("CURL", f"{P}/etc/x.pem", Side.EXACT),
        ),
        (
            f'export EMACSLOADPATH="{IT}/a${{EMACSLOADPATH:+;}}$EMACSLOADPATH"',
            SearchPath("EMACSLOADPATH", f"{P}/a", Side.PREFIX, ";"),
        ),
        (
            f'export INFOPATH="$INFOPATH${{INFOPATH:+:}}{IT}/info"',
            SearchPath("INFOPATH", f"{P}/info", Side.SUFFIX),
        ),
    ],
)
def test_each_form_of_definition(line: str, expected: SearchPath) -> None:
    assert list(parse(f"# Source this file\n\n{line}\n")) == [expected]


@pytest.mark.parametrize(
    "line",
    [
        '# export PATH="/x"',
        'export PATH="$(rm -rf /)"',
        'export PATH="`id`$HOME"',
        "source /etc/profile",
        'PATH="/x"',
        'export A B="x"',
    ],
)
def test_what_is_no_definition_is_neither_run_nor_believed(line: str) -> None:
    assert not [one for one in parse(line) if "$" in one.value or "(" in one.value]


def test_a_value_goes_beside_what_is_there() -> None:
    assert SearchPath("PATH", "/p/bin").beside("/bin") == "/p/bin:/bin"
    assert SearchPath("PATH", "/p/bin").beside("") == "/p/bin"
    assert SearchPath("INFOPATH", "/p", Side.SUFFIX).beside("/a") == "/a:/p"
    assert SearchPath("X", "/p", Side.EXACT).beside("/a") == "/p"
