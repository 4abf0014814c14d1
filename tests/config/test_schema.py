"""The JSON schema is what an editor needs: a dialect, a title and a description for every key, the names of choices."""

from collections.abc import Iterator
from typing import Any

import pytest

from dist_train.config.choices import TABLES
from dist_train.config.schema import json_schema


def properties() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key, in its section."""
    document = json_schema()
    for listed in (document, *document["$defs"].values()):
        section = listed["anyOf"][-1] if "anyOf" in listed else listed  # a section that may be one value
        yield from ((f"{section['title']}.{key}", found) for key, found in section["properties"].items())


def test_it_says_what_it_is() -> None:
    document = json_schema()
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["title"] == "dist_train: the config of one training run"
    assert not document["additionalProperties"]


def test_every_key_has_a_description_and_a_title() -> None:
    for name, found in properties():
        assert found.get("description"), f"{name} has no docstring in its section"
        assert "$ref" in found or found["title"] == name.rpartition(".")[2]


@pytest.mark.parametrize("table", [table for table in TABLES if table.key != "optim.name"], ids=lambda table: table.key)
def test_choices_list_their_names(table: Any) -> None:
    section, key = table.key.split(".")[-2:]
    every = dict(properties())
    found = every.get(f"{key}.name", every[f"{section}.{key}"])  # the name in a section that may be one value
    names = found if "enum" in found else found["anyOf"][0]
    assert names["enum"] == list(table.rows)


def test_a_file_with_a_base_may_leave_out_what_others_need() -> None:
    document = json_schema()
    assert document["properties"]["base"]["type"] == "string"
    assert "required" not in document, "a file with a base needs nothing"
    assert document["if"] == {"required": ["base"]}
    assert document["then"] == {}
    needed = document["else"]
    assert needed["required"] == ["run", "model", "data", "optim", "train"]
    assert needed["properties"]["optim"]["anyOf"] == [{"required": ["lr"]}, {"required": ["lr_base"]}]
    assert document["$defs"]["EarlyStoppingConfig"]["required"] == ["patience"], "of a section that may be missing"
