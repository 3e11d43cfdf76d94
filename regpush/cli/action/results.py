"""Turn the JSON report of a push or plan into a GitHub step's outputs and summary. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from msgspec import Struct

from regpush.cli import table
from regpush.cli.columns import size
from regpush.cli.rendering import json_text
from regpush.events import Action
from regpush.report import Tense

Report = Mapping[str, Any]
"""A parsed JSON report of `regpush --format json`, schema 1."""


def outputs(report: Report, tense: Tense) -> dict[str, str]:
    """Return the values of the outputs in `action.yml`, by name.

    A value that a plan does not know, such as a digest, is empty.
    """
    destination = report["destinations"][0]
    return {
        "digest": report["digest"] or "",
        "image": destination["image"],
        "ref": report["ref"] or "",
        "tags": "\n".join(destination["tags"]),
        "metadata": json_text(report),
        "uploaded-bytes": str(report["bytes"]["uploaded"]),
        "reused-layers": str(sum(map(_actions(report).count, _words_of_kept(tense)))),
        "changed": json.dumps(report["changed"]),
    }


def _words_of_kept(tense: Tense) -> tuple[str, ...]:
    """Return the words in the report for layers that the registry had: `reused`, `mounted`."""
    return tense.word(Action.REUSED), tense.word(Action.MOUNTED)


class _Outcome(Struct, frozen=True, kw_only=True):
    """The values of a JSON report that the sentence about bytes sent needs (`table.sent`)."""

    changed: bool
    requests: int
    seconds: float


def sentence(report: Report, tense: Tense) -> str:
    """Return the sentence about bytes sent and saved, as `regpush push` or `plan` prints it."""
    count = report["bytes"]
    saved = count["reused"] + count["mounted"]
    of_word = {tense.word(action): action for action in Action}
    layers = [*_layers(report), *_layers_of_bases(report)]
    counts = table.counts_of([of_word[layer["action"]] for layer in layers], tense)
    if tense is Tense.PLANNED:
        return table.would_send(f"{_about(layers)}{size(count['uploaded'])}", saved, counts)
    outcome = _Outcome(
        changed=report["changed"], requests=report["requests"], seconds=report["seconds"]
    )
    return table.sent(outcome, size(count["uploaded"]), saved, counts)


def summary(report: Report, tense: Tense) -> str:
    """Return the step's summary as HTML: the tags, the bytes saved, and a table of the layers.

    It is HTML and not Markdown, since file names may contain characters that mean something in
    Markdown.
    """
    return "\n".join([*_page(report, tense), "", ""])


def _page(report: Report, tense: Tense) -> Iterator[str]:
    verb = "Would push" if tense is Tense.PLANNED else "Pushed"
    for destination in report["destinations"]:
        image = destination["image"]
        names = [f"{image}:{tag}" for tag in destination["tags"]] or [image]
        yield f"<h3>{verb} {', '.join(map(_code, names))}</h3>"
    if report["ref"]:
        yield f"<p>{_code(report['ref'])}</p>"
    yield f"<p>{escape(sentence(report, tense))}</p>"
    here = f"{report['destinations'][0]['image']}:"
    for image in report["images"]:
        yield "<table>"
        if len(report["images"]) > 1:
            yield f"<caption>{escape(image['platform'])}</caption>"
        yield "<tr><th>layer</th><th>contents</th><th>size</th><th>action</th><th>why</th></tr>"
        for number, layer in enumerate(image["layers"], 1):
            cells = [
                str(number),
                _code(layer["label"]),
                f"{_about([layer])}{size(layer['size'])}",
                layer["action"],
                escape(layer["why"].replace(here, "")),
            ]
            yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        yield "</table>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _layers(report: Report) -> list[Mapping[str, Any]]:
    return [layer for image in report["images"] for layer in image["layers"]]


def _layers_of_bases(report: Report) -> list[Mapping[str, Any]]:
    images = report["images"]
    return [layer for image in images if "base" in image for layer in image["base"]["layers"]]


def _actions(report: Report) -> list[str]:
    return [layer["action"] for layer in _layers(report)]


def _about(layers: list[Mapping[str, Any]]) -> str:
    return "about " if any(layer.get("size_is_estimate") for layer in layers) else ""
