"""Write the first `regpush.toml` of a project, from a survey of its directory. Pure."""

from __future__ import annotations

import json
import re

from regpush.project.survey import Survey

_HEAD = """\
# What regpush pushes from here, and where to. `regpush plan` shows what a push would send,
# `regpush push` sends it, and `regpush config` shows where every value comes from.
# A key is a flag of `regpush push` without its dashes; flags and REGPUSH_* variables override it.
# Credentials do not belong here: `regpush login` keeps them elsewhere.
"""

_MORE = """\
# layers = "auto"                  # learn from earlier images which items change often
# platforms = ["linux/amd64", "linux/arm64"]
# max-upload = "50MB"              # send nothing and exit with code 7 if more would be sent
# sbom = "spdx"                    # attach a list of the packages in the image

# env = {{ LOG_LEVEL = "info" }}     # variables of the container
"""


def starter(survey: Survey) -> str:
    """Return the text of a commented `regpush.toml` with the values that `survey` found."""
    return "\n".join([_HEAD, *_defaults(survey), *_app(survey), _MORE.format(name=survey.name)])


def _defaults(survey: Survey) -> list[str]:
    if survey.remote is None:
        return []
    label = f'"org.opencontainers.image.source" = {_quoted(survey.remote.web)}'
    return ["# For all apps.", "[defaults]", f"labels = {{ {label} }}", ""]


def _app(survey: Survey) -> list[str]:
    lines = [f"[apps.{survey.name}]", f"{survey.key} = {_quoted(survey.target)}"]
    lines[1] += f"  # {survey.reason.where}"
    known = survey.remote.registry if survey.remote else None
    if known:
        lines.append(f"to = {_quoted(_repository(known))}  # by the git remote")
    else:
        lines.append(f"to = {_quoted(f'registry.example.com/{survey.name}')}  # change this")
    lines += [
        'tags = ["latest"]',
        '# tags = ["{git_branch}", "{git_sha}", "{version}", "{date}"]  # filled in by every push',
    ]
    launch = survey.launch
    if launch and launch.before:
        lines.append(f"# Before each push: {launch.before}")
    if launch and launch.base:
        lines.append(f"from = {_quoted(launch.base)}")
    if launch and launch.root_dir:
        lines.append(f"root-dir = {_quoted(launch.root_dir)}")
    if survey.start:
        start = ", ".join(map(_quoted, survey.start))
        lines.append(f"entrypoint = [{start}]")
    elif launch:
        lines.append('# entrypoint = ["bin/app"]         # default: that of base or target')
    else:
        lines.append('# entrypoint = ["bin/app"]         # relative to the target')
    if not survey.ignores and survey.key == "target" and ":" not in survey.target:
        lines.append("# Files that match .regpushignore (the syntax of .gitignore) are left out.")
    if launch:
        lines.append(f'expose = ["{launch.port}"]')
        env = ", ".join(f"{name} = {_quoted(value)}" for name, value in launch.env)
        lines += [f"env = {{ {env} }}"] if env else []
    return lines


def ignore_file(survey: Survey) -> str | None:
    """Return the text of a first `.regpushignore`; None if one exists or nothing is to be ignored.

    It holds the translated patterns of the `.dockerignore`, and patterns of files that apps of this
    kind do not need at run time.
    """
    unneeded = survey.launch.ignore if survey.launch else ()
    if survey.ignores or (survey.dockerignore is None and not unneeded):
        return None
    lines = ["# Made by `regpush init`; the syntax is that of .gitignore."]
    if survey.dockerignore:
        lines[0] = "# Made of .dockerignore by `regpush init`; the syntax is that of .gitignore."
        lines += [f"# not translated, because a push needs these files: {line}"
                  for line in survey.dockerignore.left]  # fmt: skip
        lines += survey.dockerignore.kept
    return "".join(f"{line}\n" for line in (*lines, *unneeded))


def _repository(path: str) -> str:
    """Return `path` as a repository name: in lower case, with `-` for forbidden characters."""
    parts = ["-".join(re.findall(r"[a-z0-9._]+", part)) for part in path.lower().split("/")]
    return "/".join(filter(None, parts))


def _quoted(text: str) -> str:
    """Return `text` as a TOML basic string. TOML has all escapes of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
