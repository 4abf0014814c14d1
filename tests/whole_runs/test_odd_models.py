"""Whole runs of models with state that few models have: exact after a resume, sound when saved, or refused in words."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from dist_train.checkpoint.stored import load
from dist_train.inference.open_run import open_run
from tests.support import odd_models
from tests.support.runs import changed, fails, folder, rows, state_digest, train

SKIPPING = {"train__nonfinite": "skip", "train__ema": 0.9, "checkpoint": {"every_steps": 1, "keep": 100}}


def of(tree: dict[str, Any], name: str, **options: Any) -> dict[str, Any]:
    return changed(tree, **({"model__name": f"{odd_models.__name__}:{name}"} | SKIPPING | options))


def again(tree: dict[str, Any], world_size: int, begin: int, straight: Path, **options: Any) -> Path:
    """Continue a copy of a run from its checkpoint of step ``begin``, with no other save before the end."""
    tree = changed(tree, run__name="again", checkpoint={"every_steps": 1000}, **options)
    shutil.copytree(straight, folder(tree))
    for path in sorted((folder(tree) / "checkpoints").iterdir())[begin:]:
        shutil.rmtree(path)
    result = folder(tree) / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"status": "stopped"}))
    return train(tree, world_size)


@pytest.mark.parametrize(
    ("name", "world_size"),
    [
        *((name, 2) for name in ("ReadsItsAverage", "ReadsStatistics", "CountsEvaluations", "OneRank", "Formats")),
        *((name, 1) for name in ("ReadsStatistics", "Overflowing", "ExtraState", "Lazy")),
    ],
)
def test_a_resumed_run_equals_one_with_other_saves(tree: dict[str, Any], name: str, world_size: int) -> None:
    tree = of(tree, name)
    straight = train(tree, world_size)
    assert state_digest(again(tree, world_size, 3, straight)) == state_digest(straight)
    open_run(straight)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ReadsItsAverage", "ReadsStatistics", "OneRank", "WideStatistics"])
def test_so_does_one_of_four_ranks(tree: dict[str, Any], name: str) -> None:
    tree = of(tree, name)
    straight = train(tree, 4)
    assert state_digest(again(tree, 4, 3, straight)) == state_digest(straight)


def test_another_number_of_ranks_continues_with_the_buffers_of_rank_0(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tree = of(tree, "ReadsItsAverage")
    straight = train(tree, 2)
    saved = load(sorted((straight / "checkpoints").iterdir())[0])["buffers"]["model.average"]
    assert saved.shape == (2, 8)
    assert not saved[0].equal(saved[1])
    capsys.readouterr()
    again(tree, 1, 3, straight)
    assert "all ranks continue with those of rank 0" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["Overflowing", "WideStatistics", "Mask"])
def test_what_is_published_is_sound(tree: dict[str, Any], name: str) -> None:
    run = train(of(tree, name))
    for file in ("best.safetensors", "last.safetensors"):
        weights = safetensors.torch.load_file(run / file)
        assert [key for key, value in weights.items() if not value.isfinite().all()] == ["bias", "mask"][
            : 2 * (name == "Mask")
        ]
    assert all(row["loss"] < 2 for row in rows(run, "val"))


def test_extra_state_is_published(tree: dict[str, Any]) -> None:
    run = train(of(tree, "ExtraState", eval__weights="raw"))
    for which in ("best", "last"):
        state = open_run(run, which).model.get_extra_state()
        assert state["version"] > 3
        assert state["raw"] == b"\x00abc"
        assert state["steps"].tolist() == [0, 0]
        assert 5 in state


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ExtraObject", "`model._extra_state.lock` is a set, which a checkpoint cannot hold"),
        ("Refused", "`model.odd` is a tensor of torch.float32, torch.sparse_coo, which a checkpoint cannot hold"),
        ("Lock", "`train.ema` needs a copy of the model, which cannot be copied"),
        ("Growing", "the buffer model.memory had the shape [0, 8] at the start, and has [12, 8] in a training step"),
    ],
)
def test_what_no_checkpoint_can_hold_is_refused_in_a_sentence(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    said = " ".join(fails(of(tree, name), capsys).split())
    assert words in said
    assert "Traceback" not in said
    assert not list((folder(tree) / "checkpoints").glob("*"))


def test_statistics_that_overflow_end_a_run_that_must_not_skip(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    said = " ".join(fails(of(tree, "WideStatistics", train__nonfinite="error"), capsys).split())
    assert "a buffer (first of all in model.norm.running_var) was NaN or infinite" in said
