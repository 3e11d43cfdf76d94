"""A push imports what it needs: modules for the few are imported by those few."""

import json
import subprocess
import sys

PUSH = """
import json, sys
import regpush
regpush.push(sys.argv[1], to=sys.argv[2])
print(json.dumps(sorted(sys.modules)))
"""

FOR_FEW = {
    "difflib",
    "tenacity",
    "regpush.attach",
    "regpush.commands",
    "regpush.files.decompression",
    "regpush.flow.attachments",
    "regpush.flow.forecast",
    "regpush.flow.shipping",
    "regpush.history.comparison",
    "regpush.history.recall",
    "regpush.registry.download",
    "regpush.registry.referrers",
    "regpush.sources.database",
    "regpush.sources.guix",
    "regpush.sources.link_root",
    "regpush.sources.lock",
    "regpush.sources.nar",
    "regpush.sources.nix",
    "regpush.sources.node",
    "regpush.sources.python",
    "regpush.sources.store_programs",
    "regpush.transfer.base",
    "regpush.transfer.relay",
    "regpush.transfer.shipment",
}
"""Modules and packages for mistyped words, failed requests, bases, archives, stores, lock files,
attachments, plans, and several destinations."""


def test_the_push_of_a_directory_imports_nothing_for_other_pushes(
    embedded_registry, repository, tmp_path
):
    for name in ("app.txt", "help.txt", "notes.txt"):
        (tmp_path / name).write_text(name)
    for text in ("first", "changed"):
        (tmp_path / "app.txt").write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", PUSH, tmp_path, f"{embedded_registry.host}/{repository}"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert not FOR_FEW.intersection(json.loads(done.stdout))
