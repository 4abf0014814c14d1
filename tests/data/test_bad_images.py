"""The limit of bad images counts over all ranks and all attempts."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.data.bad_images import BadImages
from dist_train.data.decoding.picture import BadImage
from dist_train.data.index import scan
from dist_train.distributed.group import joined
from dist_train.errors import DataError
from dist_train.system.files import read_json
from tests.support.ranks import run_ranks
from tests.support.runs import changed


def _meet(tree: dict[str, Any], path: Path | None, first: int) -> str:
    """Each rank meets two images of its own, of 60 of which 3 may be bad; what the report says, or the check without ``path``."""
    with joined(DistributedConfig(timeout_s=30)) as group:
        cfg = parse_config(tree).data
        bad = BadImages(cfg, scan(cfg))
        for index in (0, 1):
            bad.note("train", first + 2 * group.rank + index, BadImage("bad"))
        try:
            return str(bad.report(group, path) if path else bad.check(group))
        except DataError as error:
            return str(error)


@pytest.fixture
def skipping(tree: dict[str, Any]) -> dict[str, Any]:
    return changed(tree, data__bad_images="skip", data__max_bad_share=0.05)


TOO_MANY = "4 of 60 train images cannot be read, more than `data.max_bad_share` (0.05) allows"


def test_ranks_together(skipping: dict[str, Any], tmp_path: Path) -> None:
    answers = run_ranks(2, _meet, skipping, tmp_path / "bad.json", 0)
    assert all(answer.startswith(TOO_MANY) for answer in answers), answers
    assert len(read_json(tmp_path / "bad.json")) == 4, "they are listed all the same"


def test_ranks_together_without_a_run_folder(skipping: dict[str, Any]) -> None:
    answers = run_ranks(2, _meet, skipping, None, 0)
    assert all(answer.startswith(f"{TOO_MANY}; raise it, or repair") for answer in answers), answers
    assert run_ranks(1, _meet, skipping, None, 0) == ["None"]


def test_attempts_together(skipping: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    assert run_ranks(1, _meet, skipping, path, 0) == ["2"]
    assert run_ranks(1, _meet, skipping, path, 0) == ["2"], "the same two again are no more"
    (answer,) = run_ranks(1, _meet, skipping, path, 10)
    assert answer.startswith(TOO_MANY)
