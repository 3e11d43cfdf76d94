"""`regpush schema`: valid itself, and what every command prints is validated in tests.program."""

import json

import jsonschema
import pytest

from regpush.cli.entries import ENTRIES
from tests import schema
from tests.program import push, regpush


def test_the_schema_is_one():
    whole = json.loads(regpush("schema").ok().stdout)
    jsonschema.Draft202012Validator.check_schema(whole)
    assert set(whole["x-commands"]) <= set(ENTRIES)


def test_the_reference_is_that_of_the_schema():
    assert schema.DOCUMENT.read_text("utf-8") == schema.reference(), f"run {schema.COMMAND}"


def test_a_command_without_a_report_is_named():
    regpush("schema", "demo").failed(2, "'demo' prints no JSON report", "push")


def test_a_report_that_lacks_a_field_is_found(tmp_path, docker_registry, repository):
    (tmp_path / "main.py").write_text("print('hello')\n")
    report = push(tmp_path, f"{docker_registry.host}/{repository}").ok().report
    arguments = ("push", "--format", "json")
    schema.validate(arguments, json.dumps(report))
    del report["images"][0]["layers"][0]["why"]
    with pytest.raises(AssertionError, match="why"):
        schema.validate(arguments, json.dumps(report))
