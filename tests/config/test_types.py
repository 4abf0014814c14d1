"""Values of special types: paths, walltimes, sections."""

from typing import Any

import pytest
from pydantic import ValidationError

from dist_train.config import parse_config
from dist_train.config.sections.optim import OptimConfig
from dist_train.config.types import seconds_of
from tests.support.runs import changed


def test_a_path_means_what_a_shell_makes_of_it(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    cfg = parse_config(changed(tree, data__root="~/images", run__output_dir="$SCRATCH/runs", data__cache="a/$b"))
    assert (cfg.data.root, cfg.run.output_dir, cfg.data.cache) == ("/home/me/images", "/scratch/me/runs", "a/$b")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("5:10", 310), ("1:2:3", 3723), ("1-0", 86400), ("1-00:00:30", 86430), ("2-3:4", 183840)],
)
def test_walltimes_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


def test_a_section_cannot_be_changed() -> None:
    section = OptimConfig(lr=0.1)
    with pytest.raises(ValidationError, match="frozen"):
        section.lr = 0.2  # type: ignore[misc]
