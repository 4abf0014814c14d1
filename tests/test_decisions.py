"""The tables of decisions and of promises name only keys and tests that exist."""

import re
from pathlib import Path

from pydantic import BaseModel

from dist_train.config import Config

ROOT = Path(__file__).parent.parent
ROWS = [line for line in (ROOT / "docs" / "decisions.md").read_text().splitlines() if line.startswith("| ")]


def keys(section: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in section.model_fields.items():
        found.add(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= keys(field.annotation, f"{prefix}{name}.")
    return found


TECHNIQUES = [line for line in (ROOT / "docs" / "techniques.md").read_text().splitlines() if line.startswith("| ")]


def test_every_key_exists() -> None:
    named = {
        key for row in ROWS + TECHNIQUES for key in re.findall(r"`([a-z_0-9]+(?:\.[a-z_0-9]+)+)`", row.split("|")[2])
    }
    assert len(named) > 30
    assert named <= keys(Config)


def test_every_test_exists() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("decisions.md", "resume.md", "techniques.md"))
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text))
    assert len(named) > 40
    missing = [(file, test) for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]
    assert not missing


def test_every_decision_has_a_proof() -> None:
    assert not [row for row in ROWS if "::" not in row and not row.startswith("| decision")]
    assert not [row for row in TECHNIQUES if "::" not in row and not row.startswith("| technique")]
    assert len(TECHNIQUES) > 25
