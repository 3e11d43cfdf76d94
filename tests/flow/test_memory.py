"""The memory of a push: bounded, however many layers it sends."""

import os
import random

import regpush
from regpush.options import Compression, LayerOptions, PushOptions
from regpush.pack.packer import Packer
from regpush.settings import Settings

MIB = 1 << 20


def test_blocks_of_memory_are_bounded_whatever_the_number_of_layers(
    embedded_registry, repository, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)  # more cores may take more
    made = []
    borrow = Packer.borrow
    monkeypatch.setattr(Packer, "borrow", lambda self: made.append(block := borrow(self)) or block)
    for number in range(8):
        package = tmp_path / "node_modules" / f"package{number}"
        package.mkdir(parents=True)
        (package / "data").write_bytes(random.Random(number).randbytes(9 * MIB))
    options = PushOptions(cache=False, layers=LayerOptions(compression=Compression.parse("zstd")))
    to = f"{embedded_registry.host}/{repository}"
    report = regpush.push(str(tmp_path), to=to, options=options, settings=Settings())
    assert sum(layer.size > 8 * MIB for layer in report.images[0].layers) == 8
    blocks = {id(block): len(block) for block in made}
    assert sum(blocks.values()) <= Packer.SPARE + Packer.OWN
