"""A table of alternatives: their names, the tasks that each supports, and the function that implements each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from dist_train.config.types import CALLABLE

Task = Literal["classification", "multilabel", "regression"]
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True)
class Choice:
    """One alternative.

    Attributes:
        build: ``module:function`` that implements it; empty where the name itself has this form, or means another name.
        tasks: values of ``data.task`` that it supports.
        reads: the config keys that this alternative reads and some other of its table does not.
    """

    build: str = ""
    tasks: tuple[Task, ...] = TASKS
    reads: tuple[str, ...] = ()


Row = TypeVar("Row", bound=Choice)


@dataclass(frozen=True)
class ChoiceTable(Generic[Row]):
    """The alternatives of one config key. As the annotation of a field, it validates the name and fills the JSON schema.

    Attributes:
        key: the config key whose value is one of the names.
        rows: name -> alternative.
        own: the row for every other name (the user's own code, or a library's); None if only ``rows`` are valid.
        own_form: what such a name looks like, for messages.
        elsewhere: names that other programs have, and what to do here instead.
    """

    key: str
    rows: dict[str, Row]
    own: Row | None = None
    own_form: str = ""
    elsewhere: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Row:
        """Return the row of ``name``; upper case counts as lower case."""
        row = self.rows.get(name.lower(), self.own)
        assert row is not None, f"{name} was not checked"
        return row

    def options(self, name: str, section: Any) -> dict[str, Any]:
        """Return the keyword arguments of ``name``: last part of each key that it reads -> value in ``section``."""
        return {key.rpartition(".")[2]: getattr(section, key.rpartition(".")[2]) for key in self.find(name).reads}

    def names(self, fits: Callable[[Row], bool] = lambda row: True) -> list[str]:
        """Return the names whose rows satisfy ``fits``, and ``own_form`` if ``own`` does."""
        found = [name for name, row in self.rows.items() if fits(row)]
        return [*found, self.own_form] if self.own is not None and fits(self.own) else found

    def of_task(self, task: Task) -> dict[str, Row]:
        """Return the rows that support ``task``, by name."""
        return {name: row for name, row in self.rows.items() if task in row.tasks}

    def refusal(self, name: str, task: Task, key: str = "") -> str | None:
        """Return the sentence why ``name`` cannot be used for ``task``; None if it can.

        Args:
            key: the config key that holds it, if it is not the table's.
        """
        if task in self.find(name).tasks:
            return None
        fitting = ", ".join(self.names(lambda row: task in row.tasks))
        return f"`{key or self.key}` ({name}) is not available for {task}; use one of: {fitting}"

    def read_keys(self) -> Iterator[str]:
        """Yield the keys that some alternatives read and others do not."""
        rows = [*self.rows.values(), *([self.own] if self.own else [])]
        return iter(dict.fromkeys(key for row in rows for key in row.reads))

    def unread(self, key: str, name: str) -> str | None:
        """Return the sentence that ``key`` has no effect with ``name``; None if ``name`` reads it."""
        if key in self.find(name).reads:
            return None
        readers = self.names(lambda row: key in row.reads)
        return f"`{key}` has no effect unless `{self.key}` is {either(readers)}"

    def checked(self, name: str) -> str:
        """Return ``name`` unchanged if it is in ``rows``, or is ``package.module:name`` where ``own`` allows that.

        Raises:
            PydanticCustomError: it is neither.
            ValueError: it is in ``elsewhere``.
        """
        if name.lower() in self.elsewhere:
            raise ValueError(f"{name}: {self.elsewhere[name.lower()]}")
        if name in self.rows or (self.own is not None and CALLABLE.fullmatch(name)):
            return name
        raise PydanticCustomError("choice", "must be one of {names}", {"names": list(self.rows), "own": self.own_form})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names: dict[str, Any] = {"type": "string", "enum": list(self.rows)}
        if self.own is None:
            return names
        return {"anyOf": [names, {"type": "string", "pattern": f"^{CALLABLE.pattern}$"}]}


def either(names: list[str]) -> str:
    """Return ``a, b or c``."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
