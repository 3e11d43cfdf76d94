"""`regpush simulate`: score layer strategies on a history of pushes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

import typer

from regpush.cli.columns import aligned
from regpush.cli.console import write_file
from regpush.cli.flags import Format
from regpush.cli.present import OnStdout, Presenter
from regpush.commands import simulate as simulating
from regpush.commands.history import History
from regpush.commands.simulate import Score
from regpush.errors import UsageError, printable
from regpush.layering.strategies import STRATEGIES


def simulate(
    path: Annotated[
        str,
        typer.Argument(
            metavar="HISTORY.json",
            help="A file that `regpush history` wrote.",
            show_default=False,
        ),
    ],
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            help="Layer strategy to score; repeatable. Default: all strategies.",
            show_default=False,
        ),
    ] = None,
    max_layers: Annotated[
        int, typer.Option("--max-layers", help="Maximum number of layers, 1 to 127.")
    ] = 64,
    plans_out: Annotated[
        str | None,
        typer.Option(
            help="Write the plans to this file, a line of JSON for each push; needs exactly one "
            "--layers."
        ),
    ] = None,
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """Score layer strategies on past pushes: bytes sent, divided by the least possible."""
    names = layers or list(STRATEGIES)
    if plans_out and len(names) != 1:
        raise UsageError("--plans-out writes the plans of one strategy: name it with --layers")
    told = History.parse(_read(path))
    scores = {}
    for name in names:
        plans = list(simulating.plans(told, name, max_layers))
        scores[name] = simulating.score(told, plans)
        if plans_out:
            write_file(
                plans_out,
                "w",
                "".join(json.dumps({"layers": plan}) + "\n" for plan in plans),
            )
    report = {
        "schema": 1,
        "history": told.name,
        "max_layers": max_layers,
        "strategies": {name: score.to_json() for name, score in scores.items()},
    }
    Presenter(format).result(report, lambda: _table(scores))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read {printable(path)}: {reason}") from error


def _table(found: Mapping[str, Score]) -> list[str]:
    """Return a table with a row for each strategy: its ratios, and the mean and most layers."""
    rows: list[tuple[str, ...]] = [("strategy", "push", "pull", "chain", "layers", "most")]
    for name, score in found.items():
        ratios = ("-" if r is None else f"{r:.3f}" for r in (score.push, score.pull, score.chain))
        rows.append((name, *ratios, f"{score.mean_layers:.1f}", str(score.most_layers)))
    return aligned(rows, "lrrrrr", 200)
