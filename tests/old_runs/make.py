"""Make what this folder holds: run folders of an older version, and what that version made of them.

    git worktree add OLD 389d66a                  # the code that wrote them
    cp -r tests/old_runs OLD/tests/ && cd OLD
    python -m tests.old_runs.make FOLDER

It writes ``images/``, ``tables/``, ``folders/``, ``final/`` and ``expected.json`` to FOLDER; copy them here. It imports the
old code's modules by their old names, so it does not run with newer code: that would prove nothing.

Each run but ``done`` is stopped by a signal in the middle of an epoch. A copy of it is resumed to the end, and
``expected.json`` holds what that gave: the digest of the state, the rows, the published files. ``final/`` holds the
weights, for a comparison on machines that compute other digits. All paths are relative to FOLDER, and the files
that say where a run ran (``provenance.json``) say it in neutral words.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from dist_train.files import sha256_of
from PIL import Image

from dist_train.config import dump_config, load_config, parse_config
from tests.old_runs.probe import probe
from tests.ranks import run_ranks
from tests.runs import changed, rows, state_digest

BASE: dict[str, Any] = {
    "run": {"output_dir": "folders", "deterministic": True},
    "model": {"name": "tests.old_runs.tiny_model:build", "pretrained": False},
    "data": {"root": "images", "image_size": 24, "workers": 0},
    "optim": {"name": "sgd", "lr": 0.02},
    "schedule": {"name": "cosine", "warmup_epochs": 0.6},
    "train": {"epochs": 3, "global_batch": 8},
    "eval": {"batch_size": 4, "every_steps": 4},
    "checkpoint": {"every_steps": 5, "keep": 1},
    "log": {"every_steps": 3, "tensorboard": False, "wandb": {"mode": "disabled"}},
    "distributed": {"timeout_s": 60},
}
"""Five steps an epoch."""

EVERYTHING: dict[str, Any] = {
    "model__head": {"dropout": 0.2},
    "augment": {"crop": "random_resized", "randaugment": {}, "erasing": 0.5, "mixup": 0.8, "cutmix": 1.0},
    "loss": {"label_smoothing": 0.1},
    "optim": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.05},
    "train__ema": 0.9,
    "train__clip_grad": 1.0,
    "train__micro_batch": 2,
}

TIMM = {
    "model__name": "test_efficientnet",
    "optim": {"name": "sgd", "lr": 0.002, "momentum": 0.0},
    "train__clip_grad": 1.0,
}
"""Without momentum its checkpoint is small."""

FROZEN = {"model__freeze": "backbone", "model__unfreeze_epoch": 1, "optim__nesterov": True}


def _table(task: str, metric: str, loss: str, targets: list[str]) -> dict[str, Any]:
    table = {"train": f"tables/{task}_train.csv", "val": f"tables/{task}_val.csv", "targets": targets}
    return {
        "data": {"format": "csv", "task": task, "root": ".", "csv": table, "image_size": 24, "workers": 0},
        "eval__metric": metric,
        "loss": {"name": loss},
    }


RUNS: dict[str, tuple[dict[str, Any], int, int | None]] = {
    "stopped_1": (EVERYTHING, 1, 7),
    "stopped_2": (EVERYTHING, 2, 6),
    "stopped_4": ({**EVERYTHING, "model__sync_bn": True}, 4, 6),
    "fp16": ({"train__precision": "amp_fp16", "train__nonfinite": "skip"}, 1, 7),
    "unfreeze": (FROZEN, 1, 8),
    "regression": (_table("regression", "rmse", "huber", ["red", "width"]), 1, 7),
    "multilabel": ({**_table("multilabel", "map", "bce", ["label"]), "augment": {"mixup": 0.8}}, 1, 7),
    "done": ({}, 1, None),
    "timm": (TIMM, 1, 3),
}
"""What is added to ``BASE``, the number of ranks, and the step after which rank 0 gets the signal, if any."""


def make_images() -> None:
    """40 training and 15 validation images of three classes, about 24 x 24 pixels, PNG and JPEG; and tables of them."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 15)):
        lines: dict[str, list[list[str]]] = {
            "regression": [["path", "red", "width"]],
            "multilabel": [["path", "label"]],
        }
        for number in range(count):
            label = number % 3
            width = 22 + number % 5
            pixels = rng.integers(0, 120, (24, width, 3), dtype=np.uint8)
            pixels[:: label + 2, :, label] += 130
            name = f"class_{'abc'[label]}"
            path = Path("images") / split / name / f"{number:03d}.{'jpg' if number % 3 else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            lines["regression"].append([str(path), f"{pixels[:, :, 0].mean() / 255:.4f}", str((width - 22) / 4)])
            labels = [*([name] if label < 2 else []), *(["wide"] if width > 24 else [])]
            lines["multilabel"].append([str(path), "|".join(labels)])
        Path("tables").mkdir(exist_ok=True)
        for task, table in lines.items():
            with open(f"tables/{task}_{split}.csv", "w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(table)


def _start(folder: str, config: str, stop_after: int | None) -> int:
    """What each rank does: train as the file ``config`` says, with ``folder`` as the working directory."""
    os.chdir(folder)
    from dist_train import train

    real = train.train_step

    def step_and_signal(stepper: Any, state: Any) -> None:
        real(stepper, state)
        if stepper.group.is_main and state.progress.step == stop_after:
            os.kill(os.getpid(), signal.SIGUSR1)

    train.train_step = step_and_signal
    return train.main(load_config(config))


def start(folder: Path, config: str, world_size: int, stop_after: int | None = None) -> None:
    """Train on real ranks."""
    wanted = 0 if stop_after is None else 75
    codes = run_ranks(world_size, _start, str(folder), config, stop_after)
    assert codes == [wanted] * world_size, codes


def neutral(run: Path) -> None:
    """Take the names of this machine and its folders out of a run folder."""
    document = json.loads((run / "provenance.json").read_text())
    for attempt in document["attempts"]:
        command = ["python", "-m", "dist_train", "--config", f"{run.name}.yaml"]
        attempt |= {"command": command, "directory": "project", "hosts": ["node"] * len(attempt["hosts"])}
    (run / "provenance.json").write_text(json.dumps(document, indent=2) + "\n")


def command(folder: Path, *arguments: str) -> str:
    """What a command prints, started in ``folder``."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def make(folder: Path) -> None:
    """Fill ``folder``."""
    os.chdir(folder)
    make_images()
    Path("final").mkdir()
    expected: dict[str, Any] = {"commit": "389d66a", "probe": run_ranks(1, probe)[0], "runs": {}}
    with tempfile.TemporaryDirectory() as other:
        elsewhere = Path(other)
        for name in ("images", "tables"):
            shutil.copytree(name, elsewhere / name)
        for name, (more, world_size, stop_after) in RUNS.items():
            tree = changed(BASE, **more, run__name=name)
            (elsewhere / f"{name}.yaml").write_text(dump_config(parse_config(tree)))
            start(elsewhere, f"{name}.yaml", world_size, stop_after)
            run = elsewhere / "folders" / name
            neutral(run)
            shutil.copytree(run, Path("folders") / name)
            result = json.loads((run / "result.json").read_text())
            found = {"config": tree, "world_size": world_size, "stopped_at": result["step"], "status": result["status"]}
            # What follows is what the test does as well.
            start(elsewhere, f"folders/{name}/config.yaml", world_size)
            found |= {"state": state_digest(run), "rows": rows(run)}
            found["total_steps"] = json.loads((run / "result.json").read_text())["total_steps"]
            found |= {file: sha256_of(run / f"{file}.safetensors") for file in ("best", "last")}
            shutil.copy(run / "last.safetensors", Path("final") / f"{name}.safetensors")
            straight = changed(tree, run__name=f"{name}-straight")
            (elsewhere / "straight.yaml").write_text(yaml.safe_dump(straight))
            start(elsewhere, "straight.yaml", world_size)
            assert state_digest(elsewhere / "folders" / f"{name}-straight") == found["state"], name
            expected["runs"][name] = found
    runs = [f"folders/{name}" for name in sorted(RUNS)]
    expected["evaluate"] = {
        "text": command(folder, "-m", "dist_train.evaluate", "folders/done", "--json", "scores.json"),
        "scores": json.loads(Path("scores.json").read_text()),
    }
    Path("scores.json").unlink()
    expected["predict"] = command(folder, "-m", "dist_train.predict", "folders/done", "images/val")
    root = Path(__file__).parents[2]
    expected["compare"] = command(folder, str(root / "launch" / "compare.py"), *runs)
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    target = Path(sys.argv[1]).absolute()
    target.mkdir(parents=True)
    make(target)
