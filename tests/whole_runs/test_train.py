"""Whole runs: their files, their failures, their resumes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file

from dist_train.checkpoint.store import Checkpoints
from dist_train.checkpoint.stored import load
from dist_train.config import parse_config
from dist_train.drill.faults import Traces, wait_until
from dist_train.evaluate import main as evaluate
from dist_train.run.folder import RunDir
from dist_train.run.result import START_NAME, read_refusal
from dist_train.training import step as step_module
from tests.support.forked_start import ForkedStart
from tests.support.ranks import RankFailure, collect, run_ranks, start_ranks
from tests.support.runs import changed, folder, move_checkpoint, rows, state_digest, train


def _run(tree: dict[str, Any], world_size: int = 1) -> list[int]:
    return run_ranks(world_size, _main, tree)


def _main(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def _result(tree: dict[str, Any]) -> dict[str, Any]:
    return json.loads((folder(tree) / "result.json").read_text())


def test_what_a_run_leaves_behind(tree: dict[str, Any]) -> None:
    run = train(tree, log__tensorboard=True)
    names = {path.name for path in run.iterdir()}
    assert {
        "config.yaml",
        "provenance.json",
        "metrics.jsonl",
        "result.json",
        "checkpoints",
        "best.safetensors",
    } <= names
    assert "run.lock" not in names
    result = _result(tree)
    assert (result["status"], result["step"], result["total_steps"], result["attempt"]) == ("done", 10, 10, 1)
    assert result["best"]["top1"] == max(row["top1"] for row in rows(run, "val"))
    assert result["images_per_s"] > 0
    assert result["wall_s"] > 0
    assert [row["step"] for row in rows(run, "train")] == [2, 4, 6, 8, 10]
    assert [row["step"] for row in rows(run, "val")] == [5, 10]
    (attempt,) = json.loads((run / "provenance.json").read_text())["attempts"]
    assert attempt["world_size"] == 1
    assert attempt["versions"]["torch"] == torch.__version__.split("+")[0]
    model = timm.create_model("test_vit", num_classes=3, img_size=32)
    model.load_state_dict(load_file(run / "last.safetensors"))
    assert list((run / "tensorboard").iterdir())


def test_a_finished_run_says_so_and_more_epochs_go_on(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tree, schedule__name="constant", train__epochs=1)
    digest, before = state_digest(run), _result(tree)
    leftover = run / ".data_scan.bin.1234abcd.tmp"  # of a process that was killed while it recorded sizes
    leftover.touch()
    capsys.readouterr()
    assert _run(changed(tree, schedule__name="constant", train__epochs=1)) == [0]
    assert "is already finished" in capsys.readouterr().out
    assert not leftover.exists()
    assert {key: _result(tree)[key] for key in ("status", "best", "images_per_s")} == {
        key: before[key] for key in ("status", "best", "images_per_s")
    }
    assert state_digest(run) == digest
    longer = train(tree, schedule__name="constant", train__epochs=2)
    straight = train(tree, schedule__name="constant", train__epochs=2, run__name="straight")
    assert state_digest(longer) == state_digest(straight)
    assert rows(longer, "val") == rows(straight, "val")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"optim__lr": 0.1}, "`optim.lr` was 0.05 and is now 0.1"),
        ({"optim__lr": 0.1, "augment__hflip": 0.0}, " --name NEW augment.hflip=0.0 optim.lr=0.1"),
        ({"augment__hflip": 0.0}, "`augment.hflip` was 0.5 and is now 0.0"),
        ({"run__seed": 5}, "`run.seed` was 0 and is now 5"),
        ({"run__resume": "never"}, "choose another `run.name`"),
    ],
)
def test_a_resume_with_other_arithmetic_is_refused(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str], override: dict[str, Any], words: str
) -> None:
    run = train(tree, train__epochs=1)
    before = state_digest(run)
    assert _run(changed(tree, **override), 2) == [2, 2]
    errors = capsys.readouterr().out
    assert errors.count(words) == 1, "rank 0 alone tells, once"
    assert state_digest(run) == before


def test_a_changed_folder_is_refused(tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    shutil.copytree(tree["data"]["root"], images)
    tree = changed(tree, data__root=str(images), schedule__name="constant")
    train(tree, train__epochs=1)
    moved = tmp_path / "elsewhere"
    images.rename(moved)
    train(changed(tree, data__root=str(moved)), train__epochs=2)  # another place is no change
    next((moved / "train" / "class_a").iterdir()).unlink()
    assert _run(changed(tree, data__root=str(moved), train__epochs=3)) == [2]
    printed = capsys.readouterr().out
    assert "has changed since the run started: 1 file removed (train/class_a/" in printed
    assert f"python -m dist_train branch {folder(tree)} --name NEW" in printed


def test_a_run_folder_that_cannot_be_is_told(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert _run(changed(tree, run__output_dir=str(tmp_path / "file"))) == [2]
    told = capsys.readouterr().out
    assert f"`run.output_dir` ({tmp_path / 'file'}): cannot create or write" in told


def test_an_image_size_that_the_model_cannot_take_is_told_once(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(changed(tree, data__image_size=33), 2) == [2, 2]
    assert capsys.readouterr().out.count("error: `data.image_size` (33): test_vit cannot process images") == 1


def test_resume_must_needs_a_checkpoint(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(changed(tree, run__resume="must")) == [2]
    assert "`run.resume` (must)" in capsys.readouterr().out


def test_early_stopping_and_best_survive_a_resume(tree: dict[str, Any]) -> None:
    patient = changed(
        tree,
        optim__lr=1e-12,
        train__epochs=8,
        train__early_stopping={"patience": 3},
        eval__metric="loss",
        schedule__name="constant",
    )
    run = train(changed(patient, train__max_steps=12), train__early_stopping={"patience": 3, "min_delta": 1.0})
    assert _result(tree)["step"] == 12
    run = train(patient, train__early_stopping={"patience": 3, "min_delta": 1.0})
    assert _result(tree)["step"] < 40, "it stopped early"
    assert [row["step"] for row in rows(run, "val")] == [5, 10, 12, 15] or _result(tree)["step"] == 20
    assert _result(tree)["best"]["loss"] == min(row["loss"] for row in rows(run, "val"))


def _main_with_scores(tree: dict[str, Any], top1: list[float]) -> int:
    from dist_train.training import loop as train_module

    original = train_module.evaluate

    def scored(*args: Any) -> Any:
        found = original(*args)
        assert found is not None
        return replace(found, scores=found.scores | {"top1": top1.pop(0)})

    train_module.evaluate = scored
    return _main(tree)


def test_small_gains_add_up_before_a_run_is_stopped_early(tree: dict[str, Any]) -> None:
    """As in Keras and Lightning: `min_delta` must be gained on the last score that counted, not on the best one."""
    patient = changed(tree, train__epochs=9, train__early_stopping={"patience": 2, "min_delta": 1.0})
    scores = [10.0, 10.6, 11.2, 11.8, 12.4, 12.5, 12.6, 99.0, 99.0]
    assert run_ranks(1, _main_with_scores, patient, scores) == [0]
    assert (_result(tree)["step"], _result(tree)["best"]["top1"]) == (35, 12.6)


def _main_killed_instead_of_saving(tree: dict[str, Any]) -> None:
    Checkpoints.save = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment, method-assign]
    _main(tree)


def test_best_weights_and_the_checkpoint_that_knows_them_stay_together(tree: dict[str, Any]) -> None:
    """A kill between the two, on either side."""
    tree = changed(tree, eval__metric="loss", schedule__on_extend="rescale")
    run = train(tree, train__epochs=1)
    published = [run / "best.safetensors", run / "predictions.npz"]
    before = [path.read_bytes() for path in published]
    (checkpoint,) = (run / "checkpoints").iterdir()
    for path in published:  # killed when the checkpoint had its name, and these had not
        path.rename(run / f".{path.name}.{checkpoint.name}.staged")
    (run / ".best.safetensors.step_00000010-evaluated.staged").write_bytes(b"of steps that are done again")
    train(tree, train__epochs=1)
    assert [path.read_bytes() for path in published] == before
    assert not list(run.glob(".*staged"))
    with pytest.raises(RankFailure):
        run_ranks(1, _main_killed_instead_of_saving, changed(tree, train__epochs=2))
    assert _result(tree)["best"]["step"] == 10, "it was the best so far"
    assert [path.read_bytes() for path in published] == before, "and no checkpoint knows of it"
    train(tree, train__epochs=2)
    assert _result(tree)["best"]["step"] == 10
    assert all(path.read_bytes() != old for path, old in zip(published, before, strict=True))


def test_an_earlier_better_best_is_not_overwritten_after_a_resume(tree: dict[str, Any]) -> None:
    tree = changed(tree, schedule__name="constant")
    run = train(tree, train__epochs=1)
    out_of_reach = {"step": 5, "loss": 0.0, "top1": 101.0}
    move_checkpoint(run, 5, best=out_of_reach)
    best = (run / "best.safetensors").read_bytes()
    train(tree, train__epochs=2)
    assert (run / "best.safetensors").read_bytes() == best
    assert _result(tree)["best"] == out_of_reach
    assert _result(tree)["last"]["step"] == 10


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_is_told(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tree).mkdir(parents=True)
    (folder(tree) / "checkpoints").write_text("no folder")
    assert _run(changed(tree, checkpoint__every_steps=1)) == [1]
    assert "checkpoint step_00000001 could not be written: File exists" in capsys.readouterr().out
    result = _result(tree)
    assert (result["status"], result["error"]) == ("failed", "other")
    assert result["step"] < 10, "it failed at once, not at the end"


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_disk_that_fails_is_told_in_a_sentence(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str], world_size: int
) -> None:
    """A folder in the way of a file stands for a disk that takes nothing; it is also in the way of result.json."""
    for name in ("metrics.jsonl", "result.json"):
        (folder(tree) / name).mkdir(parents=True)
    assert _run(tree, world_size) == [1] * world_size
    output = capsys.readouterr().out
    assert (
        f"error: {folder(tree) / 'metrics.jsonl'}: it is not a regular file; the saved checkpoints are intact" in output
    )
    assert "cannot write the failure to result.json: [Errno 21] Is a directory" in output
    assert "Traceback" not in output
    assert not (folder(tree) / "run.lock").exists()


def test_a_second_start_leaves_the_result_of_the_first_alone(tree: dict[str, Any]) -> None:
    """A supervisor would take a failure there for its own, and end the run that goes on."""
    first = start_ranks(1, _main, changed(tree, train__epochs=10**4, eval__every_steps=10**6, log__every_steps=1))
    assert wait_until(lambda: Traces(RunDir(folder(tree))).reached() > 1, ForkedStart(first), 60)
    before = _result(tree)
    assert before["status"] == "running"
    assert _run(tree, 2) == [2, 2]
    assert _result(tree) == before
    os.kill(first[0][0].pid, signal.SIGTERM)
    assert collect(first) == [75]


def test_a_finished_run_stays_done_when_a_start_is_refused(tree: dict[str, Any]) -> None:
    run = train(tree, train__epochs=1)
    before = _result(tree)
    assert _run(changed(tree, train__epochs=1, optim__lr=1.0)) == [2]
    assert _result(tree) == before
    assert read_refusal(RunDir(run), "7.0") == {}
    assert run_ranks(1, _main_under_a_supervisor, changed(tree, train__epochs=1, optim__lr=1.0)) == [2]
    assert read_refusal(RunDir(run), "7.0")["error"] == "config"
    assert _result(tree) == before


@pytest.mark.parametrize("status", ["done", "stopped"])
def test_a_run_that_has_lost_its_checkpoints_is_not_begun_anew(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str], status: str
) -> None:
    """Somebody made room on the disk: the scores and weights of the run are all that is left of it."""
    run = train(tree, train__epochs=1)
    shutil.rmtree(run / "checkpoints")
    (run / "result.json").write_text(json.dumps(_result(tree) | {"status": status}))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for _ in range(2):
        assert _run(changed(tree, train__epochs=1)) == [2]
        assert f"is {status} at step 5, but " in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def _main_under_a_supervisor(tree: dict[str, Any]) -> int:
    os.environ[START_NAME] = "7.0"
    return _main(tree)


def test_a_diverging_run_fails_with_its_reason_and_keeps_good_checkpoints(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    wild = changed(tree, optim__lr=1e25, checkpoint__every_steps=1, checkpoint__keep=50)
    assert _run(wild, 2) == [1, 1]
    result = _result(tree)
    assert (result["status"], result["error"]) == ("failed", "nonfinite")
    assert "NaN or infinite" in capsys.readouterr().out
    for checkpoint in (folder(tree) / "checkpoints").glob("step_*"):
        state = load(checkpoint)
        assert all(value.isfinite().all() for value in state["model"].values())


def _main_with_bad_steps(tree: dict[str, Any], bad: list[int]) -> int:
    original = step_module.train_step

    def poisoned(stepper: Any, state: Any) -> None:
        loss = state.objective.loss
        forward = loss.forward
        if state.progress.step in bad:
            loss.forward = lambda logits, targets: forward(logits, targets) * float("nan")
        original(stepper, state)
        loss.forward = forward

    from dist_train.training import loop as train_module

    train_module.train_step = poisoned
    return _main(tree)


def test_bad_steps_are_skipped_and_counted_or_end_the_run(tree: dict[str, Any]) -> None:
    skipping = changed(tree, train__nonfinite="skip", run__name="skip", log__every_steps=1)
    assert run_ranks(2, _main_with_bad_steps, skipping, [2, 3, 7]) == [0, 0]
    train_rows = rows(folder(skipping), "train")
    assert [row["skipped_steps"] for row in train_rows] == [0, 0, 1, 2, 2, 2, 2, 3, 3, 3]
    assert all(torch.isfinite(value).all() for value in load_file(folder(skipping) / "last.safetensors").values())
    assert run_ranks(2, _main_with_bad_steps, changed(tree, run__name="error"), [3]) == [1, 1]
    message = json.loads((folder(changed(tree, run__name="error")) / "result.json").read_text())["message"]
    assert "NaN or infinite in 1 of the steps 3 to 4" in message


def _main_that_fails_at(tree: dict[str, Any], step: int) -> int:
    original = step_module.train_step

    def failing(stepper: Any, state: Any) -> None:
        if state.progress.step == step:
            raise RuntimeError("not the disk's fault")
        original(stepper, state)

    from dist_train.training import loop as train_module

    train_module.train_step = failing
    return _main(tree)


def test_a_checkpoint_in_flight_survives_an_error_elsewhere(tree: dict[str, Any]) -> None:
    """The writer of the first one takes longer to start than a step does."""
    assert run_ranks(1, _main_that_fails_at, changed(tree, checkpoint__every_steps=3), 3) == [1]
    assert [path.name for path in (folder(tree) / "checkpoints").iterdir()] == ["step_00000003"]


@pytest.fixture
def broken(tree: dict[str, Any], tmp_path: Path) -> Path:
    """An image of the training set that is none; ``tree`` reads the set in a loader process."""
    images = Path(shutil.copytree(tree["data"]["root"], tmp_path / "images"))
    tree["data"] |= {"root": str(images), "workers": 1}
    path = sorted((images / "train" / "class_b").iterdir())[0]
    path.write_text("this is no image")
    return path


def test_a_broken_image_names_its_path(tree: dict[str, Any], broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tree) == [2]
    assert str(broken) in capsys.readouterr().out
    assert _result(tree)["error"] == "data"


def test_a_data_error_of_one_rank_ends_all_ranks_soon_and_is_told(
    tree: dict[str, Any], broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    for seed in range(2):  # which rank meets the image depends on the seed
        tree = changed(tree, run__name=f"seed{seed}", run__seed=seed)
        codes = _run(tree, 2)
        assert sorted(codes) == [1, 2], "the rank that met it says so, the other one lost a rank"
        assert _result(tree)["error"] == "data"
        assert str(broken) in capsys.readouterr().out
    assert time.monotonic() - began < 60, "nobody waited for distributed.timeout_s"


def _main_with_a_slow_rank_0(tree: dict[str, Any]) -> int:
    """Rank 1 fails while rank 0 is at the best weights, and notes afterwards that the run goes on."""
    from dist_train.training import loop as train_module

    original = train_module.pack_outcome

    def slow(*args: Any) -> bytes:
        time.sleep(1)
        return original(*args)

    def failing(*_: Any) -> None:
        raise RuntimeError("the cause")

    if os.environ["RANK"] == "0":
        train_module.pack_outcome = slow
    else:
        train_module.save_now = failing
    return _main(tree)


def test_the_cause_stays_told_while_rank_0_is_busy(tree: dict[str, Any]) -> None:
    assert run_ranks(2, _main_with_a_slow_rank_0, tree) == [1, 1]
    assert (_result(tree)["error"], _result(tree)["message"]) == ("other", "rank 1: RuntimeError: the cause")


def test_a_smaller_world_goes_on_where_a_larger_one_stopped(tree: dict[str, Any]) -> None:
    """4 -> 2 -> 3 ranks: the same samples in the same order at the same learning rate, to float tolerance."""
    plain = changed(tree, augment__hflip=0.0, train__micro_batch=1, log__every_steps=1, schedule__name="constant")
    straight = train(plain, 1, run__name="straight", train__epochs=3)
    for world_size, epochs in ((4, 1), (2, 2), (3, 3)):
        elastic = train(plain, world_size, run__name="elastic", train__epochs=epochs)
    assert [row["step"] for row in rows(elastic, "train")] == list(range(1, 16))
    for ours, theirs in zip(rows(elastic, "train"), rows(straight, "train"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["lr"] == theirs["lr"]


@pytest.mark.parametrize("world_size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_command_line_end_to_end(tree: dict[str, Any], tmp_path: Path, world_size: int) -> None:
    """The two ways a user starts a run, in new processes; evaluate, on as many ranks, agrees."""
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    torchrun = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}"] if world_size > 1 else []
    )
    command = [sys.executable, *torchrun, "-m", "dist_train", "--config", str(tmp_path / "run.yaml"), "train.epochs=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert first.returncode == 0, first.stderr
    assert "step 5/5" in first.stdout
    assert _result(tree)["status"] == "done"
    arguments = [str(folder(tree)), "--json", str(tmp_path / "scores.json")]
    assert run_ranks(world_size, evaluate, arguments) == [0] * world_size
    (row,) = rows(folder(tree), "val")
    assert json.loads((tmp_path / "scores.json").read_text())["loss"] == row["loss"]
