"""``python -m dist_train.predict``: CSV with names and probabilities that agree with the evaluation."""

import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.inference.load_run import load_run
from dist_train.predict import main
from dist_train.run.predictions import load_predictions
from dist_train.system.program import run_program
from tests.support.commands import call, help_takes_no_torch
from tests.support.ranks import run_ranks
from tests.support.runs import train
from tests.support.tables import tabled


def test_help_is_quick() -> None:
    assert "IMAGES" in help_takes_no_torch("predict")


def test_predictions_are_those_of_the_evaluation(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    shutil.copytree(image_folder, root)
    run = train(tree, data__root=str(root), train__epochs=2)
    shutil.rmtree(root / "train")  # the training data need not be there
    code, out, err = call(main, run, root / "val", "--batch-size", "7")
    assert (code, err) == (0, "")
    lines = list(csv.DictReader(out.splitlines()))
    kept = load_predictions(run / "predictions.npz")
    assert kept is not None
    names = ["class_a", "class_b", "class_c"]
    assert list(lines[0]) == ["path", "prediction", "probability", *names]
    assert [line["path"] for line in lines] == [str(root / path) for path in kept.paths]
    assert [line["prediction"] for line in lines] == [names[number] for number in kept.pred_N]
    for line in lines:
        values = [float(line[name]) for name in names]
        assert sum(values) == pytest.approx(1, abs=1e-4)
        assert float(line["probability"]) == max(values) == float(line[line["prediction"]])


def test_files_that_cannot_be_read_are_named(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    run = train(tree, train__epochs=1)
    bad, out = tmp_path / "bad.jpg", tmp_path / "out.csv"
    bad.write_text("not found")
    good = image_folder / "val" / "class_a" / "000.png"
    code, printed, err = call(main, run, bad, good, "--out", out)
    assert (code, printed) == (2, "")
    assert f"error: cannot read the image {bad}: cannot identify image file" in err
    assert [line["path"] for line in csv.DictReader(out.read_text().splitlines())] == [str(good)]
    code, _, err = call(main, run, tmp_path / "nowhere")
    assert (code, err) == (2, f"error: the file or folder {tmp_path / 'nowhere'} does not exist\n")
    (tmp_path / "empty").mkdir()
    assert (
        call(main, run, tmp_path / "empty")[2]
        == "error: the given folders hold no images; give image files or folders with images\n"
    )
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "1.png").symlink_to("nowhere")
    latin = os.path.join(os.fsencode(odd), b"\xe4.png")  # an umlaut, but not in UTF-8
    shutil.copy(good, latin)
    code, _, err = call(main, run, odd, "--out", out)
    counted = f"error: 1 of 2 images cannot be read and are left out\nwrote {out}: 1 images\n"
    assert (code, err) == (2, f"error: cannot read the image {odd / '1.png'}: No such file or directory\n{counted}")
    assert out.read_bytes().splitlines()[1].startswith(latin + b",")
    code, printed, _ = call(_program_with_strict_output, run, os.fsdecode(latin))
    assert code == 0
    assert os.fsencode(printed).splitlines()[1].startswith(latin + b",")


def _program_with_strict_output(arguments: list[str]) -> int:
    """Run the program; its stdout takes UTF-8 only."""
    sys.stdout.reconfigure(encoding="utf-8", errors="strict")  # type: ignore[union-attr]
    sys.argv = ["predict", *arguments]
    return run_program(main)


def test_any_name_of_a_file_and_any_place_to_write(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    run = train(tree, train__epochs=1)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/no utf-8 \xff.png"))
    shutil.copy(image_folder / "val" / "class_a" / "000.png", odd)
    out = tmp_path / "new" / "folder" / "out.csv"
    assert call(main, run, odd, "--out", out)[0] == 0
    assert os.fsencode(odd) in out.read_bytes()
    code, printed, err = call(_program_with_strict_output, run, odd)
    assert (code, err) == (0, "")
    assert str(odd) in printed


def test_ranks_and_loader_processes_change_no_digit(path: Path, image_folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("not an image")
    images = [str(image_folder / "val" / "class_c"), str(bad), str(image_folder / "val")]
    found = []
    for ranks, workers in ((1, 0), (1, 2), (2, 1)):
        folder = tmp_path / f"{ranks}-{workers}"
        options = ["--out", str(folder / "out.csv"), "--embeddings", str(folder / "features.npy"), "--batch-size", "4"]
        codes = run_ranks(ranks, main, [str(path), *images, *options, "--set", f"data.workers={workers}"])
        assert codes == [2] * ranks
        assert sorted(path.name for path in folder.iterdir()) == ["features.npy", "out.csv"]
        found.append(((folder / "out.csv").read_bytes(), (folder / "features.npy").read_bytes()))
    assert found[0] == found[1] == found[2]
    lines = list(csv.DictReader(found[0][0].decode().splitlines()))
    files = [*sorted((image_folder / "val" / "class_c").iterdir()), *sorted((image_folder / "val").glob("*/*"))]
    assert [line["path"] for line in lines] == [str(file) for file in files]
    assert len(np.load(tmp_path / "2-1" / "features.npy")) == len(lines)


def test_convolutions_give_the_same_digits_on_two_ranks_and_the_labels_of_the_evaluation(
    tree: dict[str, Any], image_folder: Path, tmp_path: Path
) -> None:
    run = train(tree, model__name="test_efficientnet", train__epochs=1, augment__crop="center")
    assert load_run(run, device="cpu").channels_last
    found = []
    for ranks in (1, 2):
        out, features = tmp_path / f"{ranks}.csv", tmp_path / f"{ranks}.npy"
        options = ["--out", str(out), "--embeddings", str(features), "--batch-size", "20"]
        workers = ["--set", f"data.workers={ranks - 1}"]
        assert run_ranks(ranks, main, [str(run), str(image_folder / "val"), *options, *workers]) == [0] * ranks
        found.append((out.read_bytes(), features.read_bytes()))
    assert found[0] == found[1]
    lines = list(csv.DictReader(found[0][0].decode().splitlines()))
    assert len(np.load(tmp_path / "2.npy")) == len(lines) == 23
    kept = load_predictions(run / "predictions.npz")
    assert kept is not None
    assert kept.likeliest is not None
    names = ["class_a", "class_b", "class_c"]
    assert [line["prediction"] for line in lines] == [names[number] for number in kept.pred_N]
    best = [float(line["probability"]) for line in lines]
    assert best == pytest.approx(kept.likeliest.probabilities_NT[:, 0].tolist(), abs=1e-3), "float16 there"


def test_one_rank_that_fails_ends_all(path: Path, image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.csv"
    arguments = [str(path), str(image_folder / "val"), "--out", str(out), "--batch-size", "4"]
    assert run_ranks(2, _main_with_a_full_disk, arguments) == [2, 2]
    assert list(out.parent.iterdir()) == []


def _main_with_a_full_disk(arguments: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return main(arguments)


def test_embeddings_need_a_file_that_can_hold_them(tmp_path: Path) -> None:
    wanted = "must end in .npy, or be the .parquet file of --out; change it"
    (tmp_path / "config.yaml").touch()  # a run folder, as far as the command looks at it before the other arguments
    for options in (["a.csv"], ["a.parquet"], ["a.parquet", "--out", "b.parquet"]):
        code, _, err = call(main, tmp_path, "no_images", "--embeddings", *options)
        assert (code, err) == (2, f"error: --embeddings ({options[0]}) {wanted}\n")


@pytest.mark.slow  # starts a process, which imports torch
def test_a_reader_that_ends_early(path: Path, image_folder: Path, tmp_path: Path) -> None:
    features = tmp_path / "features.npy"
    options = ["--batch-size", "1", "--embeddings", features]
    command = [sys.executable, "-u", "-m", "dist_train.predict", path, *[image_folder / "val"] * 40, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"path,")
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")
    assert not features.exists()


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks(tree: dict[str, Any], image_folder: Path, tmp_path: Path, task: str) -> None:
    keys: dict[str, Any] = {"data__format": "csv", "data__task": task, "train__epochs": 1}
    keys |= {"multilabel": {"loss__name": "bce", "eval__metric": "map"}, "regression": {"loss__name": "mse", "eval__metric": "r2"}}[task]  # fmt: skip
    if task == "regression":
        keys["data__csv"] = {"targets": ["red", "width"]}
    run = train(tree, data__root=str(tabled(image_folder, tmp_path / "tables", task)), **keys)
    code, out, _ = call(main, run, image_folder / "val" / "class_a" / "000.png")
    assert code == 0
    (line,) = csv.DictReader(out.splitlines())
    if task == "regression":
        assert list(line) == ["path", "red", "width"]
    else:
        names = ["class_a", "class_b", "wide"]
        assert list(line) == ["path", "predictions", *names]
        assert line["predictions"] == "|".join(name for name in names if float(line[name]) > 0.5)
