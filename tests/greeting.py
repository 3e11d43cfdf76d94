"""A program that prints the greeting of GNU hello and needs no other file of an image."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.registry.parts import real_part

GREETING = "Hello, world!\n"
_SOURCE = """
#include <stdio.h>

int main(void) { return puts("Hello, world!") == EOF; }
"""


def greeter(directory: Path) -> Path:
    """Compile the program, statically linked, below `directory`; returns its path."""
    source, program = directory / "hello.c", directory / "hello"
    source.write_text(_SOURCE)
    subprocess.run([real_part("gcc"), "-static", "-Os", "-s", "-o", program, source], check=True)
    return program
