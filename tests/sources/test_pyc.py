"""Compiled files: the same bytes from any process, the code that Python itself would make."""

from __future__ import annotations

import importlib.util
import marshal
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.concurrency import Cancellation
from regpush.errors import UsageError
from regpush.sources.python import pyc_worker
from regpush.sources.python.pyc import Compiler, Module
from regpush.sources.python.pyc_worker import canonical, compiled
from regpush.sources.python.target import PythonVersion
from regpush.sources.tools import Workshop

HERE = PythonVersion(sys.version_info[1])
LIBRARY = Path(os.__file__).parent
SAMPLES = ("argparse.py", "ast.py", "datetime.py", "json/decoder.py", "typing.py", "tarfile.py")
ODD = '''
"""Ünïcode."""
import os as größe
def f(x, *, y=1 << 80, z=1.5e300, c=2j, b=b"bytes of a constant", s="two words", t=("a", ("b", 1))):
    if x in {None, "one", "two", "three", b"four", 5, (6, "six"), ...}:
        return x in {"three", "two", "one", None, ...}, "ä", " ", "-", "x" * 30, -1, 2 ** 40
    return [g for g in x[1:2] if "two words" != g], lambda größe: (größe, "ä", "\\ud800")
'''


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    with Workshop(lambda event: None, Cancellation()) as found:
        yield found


def sources() -> list[Module]:
    texts = {name: (LIBRARY / name).read_bytes() for name in SAMPLES}
    texts["odd.py"] = ODD.encode()
    return [Module(f"/app/{name}", lambda text=text: text) for name, text in texts.items()]


def contents(compiler: Compiler, given: list[Module], package: str = "one") -> dict[str, bytes]:
    return {
        one.path: b"".join(one.content.open()) for one in compiler.compile(package, given)
    }  # fmt: skip


def test_processes_agree_whatever_they_compiled_before(workshop):
    one, two = (Compiler.start(HERE, workshop) for _ in range(2))
    first = contents(one, sources())
    # Their hashes differ (-I has Python draw a seed), and so does what they have interned.
    assert contents(two, sources()[::-1]) == first
    assert contents(one, sources(), "again") == first
    assert len(first) == len(SAMPLES) + 1


def test_code_is_what_python_makes_and_holds_whatever_the_times_are(workshop):
    compiler = Compiler.start(HERE, workshop)
    found = contents(compiler, sources())
    assert compiler.magic == importlib.util.MAGIC_NUMBER.hex()
    for source in sources():
        data = found[importlib.util.cache_from_source(source.path)]
        # PEP 552: magic number, flags (hash-based, unchecked), and the hash of the source.
        assert data[:4] == importlib.util.MAGIC_NUMBER
        assert int.from_bytes(data[4:8], "little") == 0b01
        assert data[8:16] == importlib.util.source_hash(source.read())
        code = compile(source.read(), source.path, "exec", dont_inherit=True)
        assert marshal.loads(data[16:]) == code
        assert list(filenames(marshal.loads(data[16:]))) == list(filenames(code))


def filenames(code: CodeType) -> Iterator[str]:
    yield code.co_filename
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from filenames(constant)


def test_who_else_refers_to_code_has_no_say():
    code = compile("def f(x):\n    return x in {'one', 'two'}\n", "/app/a.py", "exec")
    alone, written = marshal.dumps(code), canonical(code)
    held = code.co_consts[0]
    # The reason for all this: another reference count, other bytes (CPython issue 98819).
    assert marshal.dumps(code) != alone
    assert canonical(code) == written
    assert isinstance(held, CodeType)


constants = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(constants, max_size=6))
def test_any_constant_is_kept(values):
    empty = compile("def f(x):\n    return x, 'f', 'x'\n", "/app/f.py", "exec")
    code = empty.replace(co_consts=(*empty.co_consts, *values))
    written = canonical(code)
    loaded = marshal.loads(written)
    assert loaded == code
    assert repr([type(one) for one in loaded.co_consts]) == repr([*map(type, code.co_consts)])
    assert canonical(loaded) == written


@pytest.mark.parametrize("text", [b"def f(:", b"\0", b"# coding: nothing\n", b"x = '\xff'"])
def test_what_does_not_compile_has_none(text):
    assert compiled("/app/a.py", text) == b""


def test_a_python_whose_code_is_written_in_another_way_is_not_used(monkeypatch):
    assert pyc_worker.is_known()
    monkeypatch.setitem(pyc_worker._FIXED, "i", 8)
    assert not pyc_worker.is_known()


def fake(folder: Path, words: str, then: str) -> None:
    program = folder / "python3.99"
    program.write_text(f"#!/bin/sh\necho '{words}'\n{then}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_an_interpreter_that_crashes_is_started_again(workshop, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    reply = "head -c 21 >/dev/null; printf '\\003\\000\\000\\000abc'; sleep 1"
    fake(tmp_path, "cpython 3 99 abcd0d0a cpython-399",
         f"mkdir {tmp_path}/once && exit 139; {reply}")  # fmt: skip
    compiler = Compiler.start(PythonVersion(99), workshop)
    assert compiler.magic == "abcd0d0a"
    given = [Module("/app/a.py", lambda: b"once"), Module("/app/b.py", lambda: b"more")]
    assert contents(compiler, given) == {"/app/__pycache__/b.cpython-399.pyc": b"abc"}


@pytest.mark.parametrize(
    "words", ["", "pypy 3 99 abcd0d0a pypy399", "cpython 3 98 abcd0d0a cpython-398", "no python"]
)
def test_a_program_that_is_another_python_is_none(workshop, tmp_path, monkeypatch, words):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fake(tmp_path, words, "exit 127")
    with pytest.raises(UsageError, match=r"--compile needs Python 3\.99"):
        Compiler.start(PythonVersion(99), workshop)
