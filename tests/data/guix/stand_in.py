"""Make the daemon of Guix believe that it has what only a network would give it.

    python3 stand_in.py DERIVATION...

A package of Guix proper is built from sources, down to its bootstrap. Each one that DERIVATION
needs becomes a tree of Debian's programs and Guile modules, at the very path that Guix computes,
and is registered as valid. A package for which _PROGRAMS has a program gets that one. What needs
Guile alone is left for the daemon to build. Standard library only: it runs inside a chroot.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

_OUTPUT = re.compile(r'\("([^"]*)","(/gnu/store/[^"]*)","([^"]*)","[^"]*"\)')
_INPUT = re.compile(r'\("(/gnu/store/[^"]*\.drv)",\[')
_VERSIONED = re.compile(r"-[0-9][0-9.]*\.drv$")
"""Packages; locales, for one, Guile builds, but by a program of glibc."""
_BUILDER = re.compile(r'"(/gnu/store/[^"]*-builder)"')

_PROGRAMS = "/opt/regpush-programs"

_MODULES = {
    "guile-gcrypt": ("gcrypt",),
    "guile-git": ("git", "git.scm"),
    "guile-json": ("json", "json.scm"),
    "guile-lzlib": ("lzlib", "lzlib.scm"),
    "guile-sqlite3": ("sqlite3.scm",),
    "guile-zlib": ("zlib", "zlib.scm"),
    "guile-zstd": ("zstd", "zstd.scm"),
}
_SITE, _COMPILED = "share/guile/site/3.0", "lib/guile/3.0/site-ccache"
_DEBIAN_COMPILED = "/usr/lib/x86_64-linux-gnu/guile/3.0"
# Of the whole of guile-gdbm, what the hook that indexes manual pages calls.
_GDBM = """(define-module (gdbm) #:export (GDBM_WRCREAT gdbm-open gdbm-set! gdbm-close))
(define GDBM_WRCREAT 1)
(define (gdbm-open . _) 1)
(define (gdbm-set! . _) 1)
(define (gdbm-close . _) 1)
"""


def main(derivations: list[str]) -> None:
    """Fill and register what DERIVATIONS need; print the paths."""
    made = []
    for derivation in _foreign(derivations):
        with open(derivation, encoding="utf-8") as file:
            outputs = _OUTPUT.findall(file.read())
        for _, path, _ in outputs:
            if not os.path.lexists(path):
                _fill(path)
            made.append(path)
    if made:
        _register(made)
    print("\n".join(made))


def _foreign(derivations: list[str]) -> Iterator[str]:
    """The nearest derivations below that need more than Guile."""
    pending, seen = list(derivations), set()
    while pending:
        derivation = pending.pop()
        if derivation in seen:
            continue
        seen.add(derivation)
        with open(derivation, encoding="utf-8") as file:
            text = file.read()
        name = os.path.basename(derivation)[33:]
        if _needs_more(text) or (_VERSIONED.search(name) and not name.startswith("regpush-")):
            yield derivation
        else:
            pending += _INPUT.findall(text)


def _needs_more(text: str) -> bool:
    """Whether a derivation fetches something, or is built by a build system of Guix."""
    if any(algorithm for _, _, algorithm in _OUTPUT.findall(text)):
        return True
    builders = _BUILDER.findall(text)
    if not builders:
        return '"builtin:' in text or "bootstrap" in text
    for path in builders:
        with open(path, encoding="utf-8") as file:
            if "build-system" in file.read():
                return True
    return False


def _fill(path: str) -> None:
    name = os.path.basename(path)[33:]
    key = re.sub(r"-[0-9].*", "", name)
    os.makedirs(f"{path}/bin")
    if key == "guile" or name.startswith("guile-bootstrap"):
        shutil.copy(os.path.realpath("/usr/bin/guile"), f"{path}/bin/guile")
        _link(f"{path}/share/guile/3.0", "/usr/share/guile/3.0")
        _link(f"{path}/lib/guile/3.0", _DEBIAN_COMPILED)
    elif key.startswith("guile-gdbm"):
        _write(f"{path}/{_SITE}/gdbm.scm", _GDBM, 0o444)
    elif key in _MODULES:
        for module in _MODULES[key]:
            _link(f"{path}/{_SITE}/{module}", f"/usr/{_SITE}/{module}")
            _link(f"{path}/{_COMPILED}/{module}", f"{_DEBIAN_COMPILED}/site-ccache/{module}")
    elif key == "texinfo":
        _write(f"{path}/bin/install-info", "#!/bin/sh\n", 0o555)
    elif os.path.exists(f"{_PROGRAMS}/{key}"):
        shutil.copy(f"{_PROGRAMS}/{key}", f"{path}/bin/{key}")
    elif os.path.exists(f"/usr/bin/{key}"):
        _link(f"{path}/bin/{key}", f"/usr/bin/{key}")
    else:
        _write(f"{path}/bin/{key}", f"#!/bin/sh\necho {key}\n", 0o555)


def _link(path: str, target: str) -> None:
    if os.path.exists(target):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)


def _write(path: str, text: str, mode: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def _register(paths: list[str]) -> None:
    items = " ".join(f'(store-info "{path}" #f (list))' for path in paths)
    program = (
        "(use-modules (guix store database) (guix build store-copy))"
        '(with-database "/var/guix/db/db.sqlite" db'
        f" (register-items db (list {items})))"
    )
    subprocess.run(["guile", "-c", program], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
