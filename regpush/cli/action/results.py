"""The JSON report of a push or plan to the outputs and the summary of a step. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from regpush.cli.columns import size
from regpush.cli.rendering import json_text
from regpush.events import Action
from regpush.report import Tense

Report = Mapping[str, Any]
"""Schema 1 of `regpush --format json`."""


def outputs(report: Report, tense: Tense) -> dict[str, str]:
    """The outputs of `action.yml` by name. What a plan does not know is empty."""
    destination = report["destinations"][0]
    return {
        "digest": report["digest"] or "",
        "image": destination["image"],
        "ref": report["ref"] or "",
        "tags": "\n".join(destination["tags"]),
        "metadata": json_text(report),
        "uploaded-bytes": str(report["bytes"]["uploaded"]),
        "reused-layers": str(sum(map(_actions(report).count, _kept(tense)))),
        "changed": json.dumps(report["changed"]),
    }


def _kept(tense: Tense) -> tuple[str, ...]:
    """The actions of layers that were not sent: the registry had them, here or elsewhere."""
    return tense.word(Action.REUSED), tense.word(Action.MOUNTED)


def sentence(report: Report, tense: Tense) -> str:
    """What crossed the network, or would, in one line."""
    count = report["bytes"]
    sent, kept = count["uploaded"], count["reused"] + count["mounted"]
    actions = _actions(report)
    words = [tense.word(action) for action in Action]
    counts = ", ".join(f"{actions.count(word)} {word}" for word in words if word in actions)
    layers = f" ({counts})" if counts else ""
    if tense is Tense.PLANNED:
        about = f"{_about(_layers(report))}{size(sent)} of layers"
        return f"Would send {about}, saving {size(kept)}{layers}."
    unchanged = "" if report["changed"] else "Unchanged. "
    return f"{unchanged}Sent {size(sent)}, saved {size(kept)}{layers}."


def summary(report: Report, tense: Tense) -> str:
    """The page of the step: what was pushed, the bytes saved, and a table of the layers.

    HTML throughout, for the signs of Markdown occur in names of files.
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


def _actions(report: Report) -> list[str]:
    return [layer["action"] for layer in _layers(report)]


def _about(layers: list[Mapping[str, Any]]) -> str:
    return "about " if any(layer.get("size_is_estimate") for layer in layers) else ""
