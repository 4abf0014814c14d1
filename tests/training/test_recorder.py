"""What a run records: columns of its rows, ``result.json``, log lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from dist_train.evaluate import main as evaluate_command
from dist_train.system.files import write_json
from tests.support.commands import call
from tests.support.runs import changed, train


def all_rows(run: Path, split: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == split]


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_columns_of_a_row(tree: dict[str, Any], world_size: int) -> None:
    run = train(changed(tree, train__precision="amp_fp16"), world_size)
    of_ranks = {"data_wait_max", "slowest_rank", "slowest_ratio"} if world_size > 1 else set()
    for row in all_rows(run, "train"):
        assert row.keys() - of_ranks == {
            "step", "epoch", "split", "loss", "lr", "grad_norm", "images_per_s", "data_wait", "loss_scale", "skipped_steps",
            "host_mem_gb",
        }  # fmt: skip
        assert of_ranks <= row.keys()
    for row in all_rows(run, "val"):
        assert row.keys() == {"step", "epoch", "split", "loss", "top1", "top5", "macro_f1", "seconds"}
    assert [row["epoch"] for row in all_rows(run, "val")] == [1.0, 2.0]


def test_the_speed_leaves_evaluations_and_saves_out(tree: dict[str, Any]) -> None:
    run = train(changed(tree, checkpoint__every_steps=1), train__epochs=3)
    result = json.loads((run / "result.json").read_text())
    steps_s = 15 * 12 / result["images_per_s"]
    assert 0 < steps_s < result["wall_s"]
    assert sum(row["seconds"] for row in all_rows(run, "val")) < result["wall_s"] - steps_s


def test_a_run_says_where_it_begins_and_what_comes_next(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tree, 2)
    printed = capsys.readouterr().out
    head, tail = printed.split("step 2/10")
    head = " ".join(head.split())  # a long path wraps its line
    for words in ("run: ", "a new run", "device: 2 x CPU", "test_vit at 32 x 32 px", "3 classes: class_a, class_b, class_c",
                  "20 training images per", "10 steps = 2 epochs"):  # fmt: skip
        assert head.count(words) == 1, "rank 0 alone says it"
    assert "done: 10 of 10 steps; best top1" in tail
    assert tail.rstrip().splitlines()[-1] == f"      python -m dist_train.export {run}"


def test_a_resumed_run_says_how_many_steps_are_done_again(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tree = changed(tree, schedule__name="constant")
    run = train(tree, train__epochs=1)
    with open(run / "metrics.jsonl", "a") as file:  # as if killed two steps after the checkpoint
        file.write('{"step": 7, "epoch": 1.4, "split": "train", "loss": 1.0}\n')
    capsys.readouterr()
    train(tree, train__epochs=2)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"run: {run}, continues at step 5 of 10; 2 steps are repeated" in printed
    assert [row["step"] for row in all_rows(run, "train")] == [2, 4, 5, 6, 8, 10]


def test_early_stopping_is_said(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    stopping = {"patience": 1, "min_delta": 1000.0}
    run = train(tree, train__epochs=9, train__early_stopping=stopping)
    why = "early stopping: `top1` did not improve by more than 1000 on "
    assert f"done early, at step 10 of 45: {why}" in " ".join(capsys.readouterr().out.split())
    result = json.loads((run / "result.json").read_text())
    assert result["message"].startswith(why)
    assert (result["status"], result["error"]) == ("done", None)
    train(tree, train__epochs=9, train__early_stopping=stopping)
    assert f"is already finished: {why}" in " ".join(capsys.readouterr().out.split())
    assert {**json.loads((run / "result.json").read_text()), "updated": 0} == {**result, "updated": 0}


def test_a_start_of_a_run_that_is_done_is_no_attempt(tree: dict[str, Any]) -> None:
    run = train(tree)
    kept = [(run / name).read_bytes() for name in ("provenance.json", "config.yaml", "last.safetensors")]
    result = json.loads((run / "result.json").read_text())
    train(tree, 2)
    assert [(run / name).read_bytes() for name in ("provenance.json", "config.yaml", "last.safetensors")] == kept
    assert {**json.loads((run / "result.json").read_text()), "updated": 0} == {**result, "updated": 0}
    write_json(run / "result.json", {**result, "status": "running"})  # killed between the last save and its end
    train(tree)
    assert len(json.loads((run / "provenance.json").read_text())["attempts"]) == 2
    assert json.loads((run / "result.json").read_text())["attempt"] == 2


def strict(path: Path) -> list[Any]:
    """The JSON values of a file, one per line for .jsonl; fails at NaN and Infinity, which Python's reader accepts."""
    texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return [json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in {path}")) for text in texts]


@pytest.mark.parametrize(
    ("labels", "data", "metric", "why"),
    [
        ("", {"task": "multilabel"}, "map", "no validation image has a label"),
        ("1.5", {"task": "regression"}, "r2", "there are fewer than two validation images"),
    ],
)
def test_a_metric_that_is_nan_is_said_at_the_first_evaluation(
    tree: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    labels: str,
    data: dict[str, Any],
    metric: str,
    why: str,
) -> None:
    images = [str(path) for path in sorted(Path(tree["data"]["root"]).glob("train/*/*"))[:13]]
    several = data["task"] == "multilabel"
    train_labels = ["red" if several else "1.0", "blue" if several else "2.0"] * 6
    rows = [f"{path},{label}\n" for path, label in zip(images, train_labels, strict=False)]
    (tmp_path / "train.csv").write_text("path,label\n" + "".join(rows))
    (tmp_path / "val.csv").write_text(f"path,label\n{images[12]},{labels}\n")
    changed_data = {**tree["data"], "root": str(tmp_path), "format": "csv", "csv": {"label_separator": ";"}, **data}
    cfg = changed(
        {**tree, "data": changed_data, "loss": {"name": "bce" if several else "mse"}},
        eval__metric=metric, eval__every_steps=2, train__epochs=50, train__early_stopping={"patience": 3}, optim__lr=1e-3,
    )  # fmt: skip
    run = train(cfg, 2)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count(f"`eval.metric` ({metric}) is nan: {why}. Of evaluations") == 1, "rank 0 alone, once"
    assert "early stopping counts it as no gain (patience 3)" in printed
    assert f"early stopping: `{metric}` was NaN in all 4 evaluations" in printed
    result = strict(run / "result.json")[0]
    assert (result["status"], result["step"]) == ("done", 8)
    assert result["message"] == f"early stopping: `{metric}` was NaN in all 4 evaluations"
    losses = {row["step"]: row["loss"] for row in strict(run / "metrics.jsonl") if row["split"] == "val"}
    assert result["best"]["step"] == min(losses, key=lambda step: losses[step])
    assert result["best"][metric] is None
    code, out, err = call(evaluate_command, run, "--json", tmp_path / "scores.json")
    assert (code, err) == (0, ""), out
    assert strict(tmp_path / "scores.json")[0][metric] is None
    for path in (*run.rglob("*.json"), *run.rglob("*.jsonl")):
        strict(path)
