"""A table validates names, explains a refusal, and finds the function of a row."""

from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from dist_train.config.choice_table import Choice, ChoiceTable, either
from dist_train.config.types import Section
from dist_train.config.user_code import function_of

CLOSED = ChoiceTable(
    "part.name",
    {"round": Choice("builtins:round", reads=("part.digits",)), "sum": Choice("math:fsum", ("regression",))},
)
OPEN = ChoiceTable("part.kind", {"round": Choice("builtins:round")}, own=Choice(reads=("part.size",)), own_form="a.b:C")


class Part(Section):
    name: Annotated[str, CLOSED] = "round"
    kind: Annotated[str, OPEN] = "round"
    digits: int = 2


def test_a_field_takes_the_names_of_its_table() -> None:
    assert Part(name="sum", kind="mine.losses:Own").kind == "mine.losses:Own"
    for wrong in ({"name": "mine.losses:Own"}, {"name": "Round"}, {"kind": "a:b:c"}, {"kind": "other"}):
        with pytest.raises(ValidationError, match="must be one of"):
            Part(**wrong)


def test_the_schema_lists_the_names() -> None:
    properties: dict[str, Any] = Part.model_json_schema()["properties"]
    assert properties["name"]["enum"] == ["round", "sum"]
    names, own = properties["kind"]["anyOf"]
    assert names["enum"] == ["round"]
    assert own["type"] == "string"
    assert ":" in own["pattern"]


def test_the_function_and_its_options() -> None:
    assert function_of(CLOSED, "round") is round
    assert CLOSED.options("round", Part(digits=3)) == {"digits": 3}
    assert function_of(OPEN, "math:floor")(2.5) == 2, "a name of one's own is where its function is"


def test_what_is_refused_and_what_is_not_read() -> None:
    assert CLOSED.refusal("round", "multilabel") is None
    assert CLOSED.refusal("sum", "multilabel") == (
        "`part.name` (sum) is not available for multilabel; use one of: round"
    )
    assert CLOSED.unread("part.digits", "round") is None
    assert CLOSED.unread("part.digits", "sum") == "`part.digits` has no effect unless `part.name` is round"
    assert OPEN.unread("part.size", "round") == "`part.size` has no effect unless `part.kind` is a.b:C"
    assert OPEN.unread("part.size", "m:f") is None
    assert list(OPEN.read_keys()) == ["part.size"]


def test_names_in_a_sentence() -> None:
    assert [either(["a"]), either(["a", "b"]), either(["a", "b", "c"])] == ["a", "a or b", "a, b or c"]
