"""Which of a package's outputs is its main one, by what Nix prints of them."""

import pytest

from regpush.sources.nix.installables import Evaluated


@pytest.mark.parametrize(
    ("printed", "to_install", "expected"),
    [
        (["man", "out"], ["out", "man"], ["out", "man"]),
        (["dev", "man", "out"], [], ["out", "dev", "man"]),
        (["bin", "man"], ["man", "bin"], ["man", "bin"]),
        (["bin", "man"], ["lib", "bin"], ["bin", "man"]),
        (["bin", "man"], [], ["bin", "man"]),
    ],
)
def test_the_main_output_comes_first(
    printed: list[str], to_install: list[str], expected: list[str]
) -> None:
    """Nix sorts outputs by name; nixpkgs' `outputsToInstall` has the main one first."""
    found = Evaluated("x.drv", {name: f"/nix/store/{name}" for name in printed})
    assert list(found.with_main(to_install).outputs) == expected
