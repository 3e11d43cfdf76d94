"""`python -m tests.bench [SCENARIO ...]`; what it does is told in the package."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from tests.bench import go_gzip, runner, table
from tests.bench.link import Shape
from tests.bench.runner import Folders, Result
from tests.bench.scenarios import SCENARIOS, Case, Scenario, Settings


def main() -> int:
    """Run the scenarios asked for, print a table for each case. Returns the exit code."""
    arguments = _arguments()
    settings = Settings(
        cache=arguments.cache,
        size_mb=arguments.size_mb,
        closure=arguments.closure,
        nixpkgs_script=arguments.nixpkgs_script,
    )
    folders = Folders(cache=arguments.cache, scratch=arguments.scratch)
    results: dict[str, list[Result]] = {}
    _print(f"{table.machine()}; registries store below {arguments.scratch}")
    for name in arguments.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        _print(f"\n## {name}: {scenario.title}")
        done = results[name] = []
        for case in scenario.cases(settings):
            if all(text in case.label for text in arguments.case):
                adapted = _adapted(case, arguments)
                done.append(runner.run(adapted, arguments.runs, folders, _say))
                if not scenario.series:
                    _show(done[-1], scenario, settings)
        if scenario.series and done:
            _print(f"\n{table.series(done)}")
    if arguments.json:
        arguments.json.write_text(_raw(results))
    return 0


def _show(result: Result, scenario: Scenario, settings: Settings) -> None:
    _print(f"\n{table.described(result)}\n\n{table.table(result)}")
    if scenario.against_go:
        size = go_gzip.size(result.case.sources[0], settings.cache)
        _print("\nGo is not on the PATH." if size is None else f"\n{table.against(result, size)}")


def _raw(results: Mapping[str, list[Result]]) -> str:
    """Every sample, as JSON."""
    cases = [
        {
            "scenario": name,
            "case": table.described(result),
            "samples": {
                contender: [asdict(sample) for sample in samples]
                for contender, samples in result.samples.items()
            },
        }
        for name, several in results.items()
        for result in several
    ]
    return json.dumps({"machine": table.machine(), "cases": cases}, indent=1)


def _adapted(case: Case, arguments: argparse.Namespace) -> Case:
    """`case` over the link, and with the contenders, of the command line."""
    shape = case.shape
    if arguments.rtt is not None or arguments.mbit is not None:
        usual = shape or Shape()
        shape = Shape(
            rtt_ms=usual.rtt_ms if arguments.rtt is None else arguments.rtt,
            up_mbit=arguments.mbit or usual.up_mbit,
            down_mbit=arguments.mbit or usual.down_mbit,
        )
    wanted = [
        one
        for one in case.contenders
        if not arguments.only or any(text in one.name for text in arguments.only)
    ]
    return replace(case, shape=shape, contenders=wanted)


def _print(text: str) -> None:
    print(text, flush=True)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    add = parser.add_argument
    add("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    add("--runs", type=int, default=3, help="of each contender, in turn (3)")
    add("--size-mb", type=float, help="other inputs than the scenario's, in 10^6 bytes")
    add("--rtt", type=float, metavar="MS", help="another round trip, in milliseconds")
    add("--mbit", type=float, help="another rate, in 10^6 bits a second")
    add("--only", action="append", default=[], metavar="TEXT",
        help="contenders with this in their name; repeatable, any will do")  # fmt: skip
    add("--case", action="append", default=[], metavar="TEXT",
        help="cases with this in their label; repeatable, all must be")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write every sample there")
    add("--closure", type=Path, metavar="DIR", help="a store made elsewhere; see closures.py")
    add("--nixpkgs-script", type=Path, metavar="FILE", help="its stream_layered_image.py")
    temporary = Path(tempfile.gettempdir())
    cache = temporary / "regpush-bench"
    add("--cache", type=Path, default=cache, metavar="DIR", help=f"inputs are kept here ({cache})")
    add("--scratch", type=Path, default=temporary, metavar="DIR",
        help=f"registries store below here; their disk counts, that of /dev/shm "
        f"is memory ({temporary})")  # fmt: skip
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.scenarios if name not in SCENARIOS]:
        parser.error(f"no scenario is named {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
