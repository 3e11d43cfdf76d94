"""Names of packages as strangers write them: a purl can be made of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL

from regpush.attach.sbom.bill import Purl
from regpush.attach.sbom.packages import packages_in
from regpush.attach.sbom.purl import parse
from tests.sources.conftest import take

TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(["", "/", " ", "a/", "\ud800"])


@settings(deadline=None)
@given(kind=st.sampled_from(["npm", "pypi", "oci", "deb"]), name=TEXT, space=TEXT, version=TEXT)
def test_every_name_makes_a_purl_that_its_own_library_reads(
    kind: str, name: str, space: str, version: str
) -> None:
    made = parse(Purl(kind=kind, namespace=space, name=name, version=version))
    assert PackageURL.from_string(made.to_string()).name


@pytest.mark.parametrize("name", ["@scope/", "/", " ", "//", "a/ "])
def test_a_description_without_a_name_describes_nothing(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "node_modules/a"
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": name, "version": "1"}))
    closure = take(tmp_path).closure
    assert [one for item in closure.items for one in packages_in(item)] == []
