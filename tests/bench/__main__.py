"""`python -m tests.bench [SCENARIO ...]`; what it does is told in the package."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from tests.bench import runner, table
from tests.bench.link import Shape
from tests.bench.scenarios import SCENARIOS, Case, Settings


def main() -> int:
    """Run the scenarios asked for, print a table for each case. Returns the exit code."""
    arguments = _arguments()
    settings = Settings(
        cache=arguments.cache,
        size_mb=arguments.size_mb,
        rtt_ms=arguments.rtt,
        mbit=arguments.mbit,
        closure=arguments.closure,
        nixpkgs_script=arguments.nixpkgs_script,
    )
    raw = []
    print(table.machine(), flush=True)
    for name in arguments.scenarios or SCENARIOS:
        print(f"\n## {name}: {SCENARIOS[name].title}", flush=True)
        for planned in SCENARIOS[name].cases(settings):
            case = _adapted(planned, settings, arguments.only)
            result = runner.run(case, arguments.runs, settings.cache, _say)
            print(f"\n{table.described(result)}\n\n{table.table(result)}", flush=True)
            raw.append(
                {
                    "scenario": name,
                    "case": table.described(result),
                    "samples": {
                        contender: [asdict(sample) for sample in samples]
                        for contender, samples in result.samples.items()
                    },
                }
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": table.machine(), "cases": raw}, indent=1))
    return 0


def _adapted(case: Case, settings: Settings, only: list[str]) -> Case:
    """`case` over the link and with the contenders of the command line."""
    shape = case.shape
    if settings.rtt_ms is not None or settings.mbit is not None:
        shape = shape or Shape()
        rate = settings.mbit or shape.up_mbit
        rtt_ms = shape.rtt_ms if settings.rtt_ms is None else settings.rtt_ms
        shape = Shape(rtt_ms=rtt_ms, up_mbit=rate, down_mbit=settings.mbit or shape.down_mbit)
    taking_part = [one for one in case.contenders if not only or any(o in one.name for o in only)]
    return replace(case, shape=shape, contenders=tuple(taking_part))


def _say(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    add = parser.add_argument
    add("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    add("--runs", type=int, default=3, help="of each contender, in turn (3)")
    add("--size-mb", type=float, help="other inputs than the scenario's, in 10^6 bytes")
    add("--rtt", type=float, metavar="MS", help="another round trip, in milliseconds")
    add("--mbit", type=float, help="another rate, in 10^6 bits a second")
    add("--only", action="append", default=[], metavar="TEXT",
        help="contenders with this in their name; repeatable")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write every sample there")
    add("--closure", type=Path, metavar="DIR", help="a store made elsewhere; see closures.py")
    add("--nixpkgs-script", type=Path, metavar="FILE", help="its stream_layered_image.py")
    cache = Path(os.environ.get("TMPDIR", tempfile.gettempdir()), "regpush-bench")
    add("--cache", type=Path, default=cache, help=f"where inputs are kept ({cache})")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.scenarios if name not in SCENARIOS]:
        parser.error(f"no scenario is named {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
