"""Which starts may continue a run: its length, its schedule; and what a refused one leaves as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.rules.resume_keys import arithmetic, changed_keys
from dist_train.inference.config_check import check
from dist_train.training.resume import strategy_that_ran, with_kept
from tests.support.ranks import run_ranks
from tests.support.runs import changed, published, rows, state_digest, train

MANIFEST = next((Path(__file__).parents[1] / "old_runs" / "folders" / "done").rglob("manifest.json"))


def _main(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def content(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture
def warm(tree: dict[str, Any]) -> dict[str, Any]:
    """A cosine with a warm-up of 2 steps, over 10 steps."""
    return changed(tree, schedule__warmup_epochs=0.4, log__every_steps=1, train__ema=0.9, model__options={"depth": 2})


@pytest.mark.parametrize(
    ("how", "world_size"),
    [
        ("restart", 2),
        ("rescale", 1),
        pytest.param("restart", 1, marks=pytest.mark.slow),
        pytest.param("rescale", 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_made_longer_resumes_exactly(warm: dict[str, Any], how: str, world_size: int) -> None:
    """Killed in the new part, it ends with the bits of the run that was not."""
    first = train(warm, world_size, checkpoint__every_steps=4)
    longer = changed(warm, train__epochs=4, schedule__on_extend=how, checkpoint={"every_steps": 4, "keep": 9})
    straight, killed, earlier = (
        shutil.copytree(first, first.with_name(name)) for name in ("straight", "killed", "earlier")
    )
    train(longer, world_size, run__name="straight")
    train(longer, world_size, run__name="killed")
    for checkpoint in sorted((killed / "checkpoints").glob("step_*"))[-3:]:  # the newest ones are lost
        shutil.rmtree(checkpoint)
    assert max(path.name for path in (killed / "checkpoints").iterdir()) == "step_00000012"
    # The key may be left out later: the checkpoint knows where the schedule started again.
    train(changed(longer, schedule__on_extend=None), world_size, run__name="killed")
    assert state_digest(killed) == state_digest(straight)
    assert (published(killed), rows(killed)) == (published(straight), rows(straight))
    rates = [row["lr"] for row in rows(straight, "train")]
    if how == "rescale":
        assert rates[10] > rates[9]
        assert rates[10:] == sorted(rates[10:], reverse=True)
        return
    assert rates[10:12] == rates[:2], "it warms up again"
    for checkpoint in (earlier / "checkpoints").glob("step_00000010*"):  # made longer before its old end
        shutil.rmtree(checkpoint)
    train(longer, world_size, run__name="earlier")
    assert state_digest(earlier) == state_digest(straight)
    assert (published(earlier), rows(earlier)) == (published(straight), rows(straight))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"train__epochs": 4}, "`train.epochs` (4) makes the run 20 steps long, and it began with 10"),
        ({"train__max_steps": 12, "train__epochs": 9}, "`train.max_steps` (12) makes the run 12 steps long"),
        ({"train__epochs": 1}, "`train.epochs` (1) ends the run at step 5, but step 10 is done"),
        ({"train__epochs": 1, "schedule__name": "constant"}, "`schedule.name` was 'cosine' and is now 'constant'"),
    ],
)
def test_another_length_is_refused_before_anything_is_written(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str], override: dict[str, Any], words: str
) -> None:
    run = train(tree)
    before = content(run)
    capsys.readouterr()
    assert run_ranks(2, _main, changed(tree, **override)) == [2, 2]
    printed = capsys.readouterr().out
    assert printed.count(words) == 1, "rank 0 alone tells, once"
    assert f"python -m dist_train branch {run} --name NEW" in printed
    assert content(run) == before


def test_check_refuses_a_length_below_the_progress(tree: dict[str, Any]) -> None:
    train(tree)
    with pytest.raises(Exception, match=r"`train.epochs` \(1\) ends the run at step 5, but step 10 is done"):
        check(parse_config(changed(tree, train__epochs=1)), 1)


def test_a_run_of_version_0_1_has_its_length_in_its_result(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tree)
    *_, path = sorted((run / "checkpoints").glob("*/manifest.json"))
    manifest = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: manifest[key] for key in manifest if key not in ("total_steps", "schedule_starts")})
    )
    capsys.readouterr()
    assert run_ranks(1, _main, changed(tree, train__epochs=4)) == [2]
    assert "makes the run 20 steps long, and it began with 10" in capsys.readouterr().out
    (run / "result.json").unlink()
    train(tree, train__epochs=4)  # nothing says what its length was


def test_a_resume_keeps_the_evaluation_of_the_run_that_an_older_version_began(tree: dict[str, Any]) -> None:
    """Their defaults are others today; what the config sets is compared."""
    then = json.loads(MANIFEST.read_text())["config"]
    cfg = with_kept(parse_config(tree), then)
    assert (cfg.eval.crop, cfg.eval.size, cfg.eval.interpolation) == ("auto", "train", "bicubic")
    assert (cfg.eval.batch_size, cfg.data) == (tree["eval"]["batch_size"], parse_config(tree).data)
    given = parse_config(changed(tree, eval__crop="squash", eval__interpolation="published"))
    kept = with_kept(given, then)
    assert (kept.eval.crop, kept.eval.size, kept.eval.interpolation) == ("squash", "train", "published")
    assert {"eval.crop", "eval.interpolation"} <= changed_keys(then, arithmetic(kept)).keys()
    today = parse_config(changed(tree, eval__size=[32, 48]))
    assert with_kept(parse_config(tree), arithmetic(today)) == today
    assert with_kept(today, arithmetic(today)) is today


@pytest.mark.parametrize(
    ("recorded", "ranks", "words"),
    [
        ("auto", 2, "ddp"),
        ("auto", 1, "one process"),
        ("fsdp", 1, "one process"),
        ("zero2", 4, "zero2"),
        ({"name": "fsdp", "cpu_offload": True}, 4, "fsdp with cpu_offload"),
    ],
)
def test_a_changed_strategy_is_called_what_ran(recorded: Any, ranks: int, words: str) -> None:
    assert strategy_that_ran(recorded, ranks) == words
