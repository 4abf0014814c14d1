"""``python -m dist_train.evaluate``: the digits of the run, tables, pictures, ensembles."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dist_train.evaluate import main
from dist_train.system.files import read_json
from dist_train.system.terminal import digits
from tests.support.commands import call, help_takes_no_torch
from tests.support.ranks import run_ranks
from tests.support.runs import train
from tests.support.tables import tabled


def test_help_is_quick() -> None:
    text = help_takes_no_torch("evaluate")
    assert "RUN [RUN ...]" in text
    assert "--picture FILE" in text


def test_a_run_is_told_with_its_own_digits(tree: dict[str, Any], tmp_path: Path) -> None:
    run = train(tree, train__epochs=1)
    row = read_json(run / "result.json")["best"]
    document, picture = tmp_path / "scores.json", tmp_path / "confusion.png"
    code, out, _ = call(main, run, "--json", document, "--picture", picture)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "  ".join(f"{name} {digits(row[name])}" for name in ("loss", "top1", "top5", "macro_f1"))
    assert lines[3].split() == ["class", "images", "recall", "precision", "f1"]
    written = read_json(document)
    assert {name: written[name] for name in ("loss", "top1", "top5", "macro_f1")} == {
        name: row[name] for name in ("loss", "top1", "top5", "macro_f1")
    }
    matrix = np.array(written["confusion"])
    assert matrix.sum() == 23
    assert 100 * matrix.trace() / 23 == pytest.approx(row["top1"])
    assert [entry["images"] for entry in written["classes"]] == matrix.sum(1).tolist()
    with Image.open(picture) as image:
        assert min(image.size) > 300
        assert len(set(image.convert("L").tobytes())) > 50


def test_how_a_run_was_trained_does_not_matter(tree: dict[str, Any]) -> None:
    run = train(tree, 2, train__epochs=1, distributed__strategy="ddp")
    code, out, err = call(main, run)
    assert (code, err) == (0, "")
    assert out.startswith("loss ")


def _probabilities(path: Path) -> tuple[Any, Any]:
    from dist_train.distributed.group import Dist
    from dist_train.distributed.stop import StopRequest
    from dist_train.inference.load_run import load_run
    from dist_train.inference.score import index_of, score

    run, group = load_run(path, device="cpu"), Dist.alone()
    found = score(run.config, run.network, index_of(run.config, run.classes), group, StopRequest(group), keep=True)
    assert found is not None
    assert found.outputs is not None
    return found.outputs.numpy(), found.labels.numpy()


def test_an_ensemble_is_the_mean_of_probabilities(tree: dict[str, Any], tmp_path: Path) -> None:
    runs = [train(tree, run__name=f"seed{seed}", run__seed=seed, train__epochs=2) for seed in (0, 1)]
    document = tmp_path / "scores.json"
    code, out, _ = call(main, *runs, "--json", document)
    assert code == 0
    assert out.splitlines()[0].startswith(f"{runs[0]}: loss ")
    assert out.splitlines()[2].startswith("ensemble of 2: loss ")
    first, second, both = read_json(document)
    assert first["loss"] == read_json(runs[0] / "result.json")["best"]["loss"]
    kept = [run_ranks(1, _probabilities, run)[0] for run in runs]
    mean, labels = np.mean([probabilities for probabilities, _ in kept], axis=0), kept[0][1]
    assert both["top1"] == pytest.approx(100 * (mean.argmax(1) == labels).mean())
    assert both["loss"] == pytest.approx(-np.log(mean[range(23), labels]).mean(), rel=1e-5)
    assert both["loss"] < max(first["loss"], second["loss"])  # by Jensen's inequality


def test_a_regression_has_a_table_of_its_targets(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    root = tabled(image_folder, tmp_path / "tables", "regression")
    keys = {"data__format": "csv", "data__task": "regression", "data__csv": {"targets": ["red", "width"]}}
    keys |= {"loss__name": "mse", "eval__metric": "mae", "data__root": str(root), "train__epochs": 1}
    runs = [train(tree, run__name=f"seed{seed}", run__seed=seed, **keys) for seed in (0, 1)]
    code, out, _ = call(main, *runs)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[-2:]] in (["red", "width"], ["width", "red"])
    assert out.splitlines()[-3].split() == ["class", "mae", "rmse", "r2"]
    code, _, err = call(main, runs[0], "--picture", tmp_path / "a.png")
    assert (code, err) == (
        2,
        "error: --picture draws a confusion matrix, which a regression task does not have; remove --picture\n",
    )


def test_what_cannot_be_written_is_told_before_the_work(tree: dict[str, Any], tmp_path: Path) -> None:
    run = train(tree, train__epochs=1)
    (tmp_path / "file").touch()
    for option, path, words in (
        ("--picture", tmp_path / "a.foo", "must end in one of .png, .svg, .pdf"),
        ("--picture", tmp_path / "file" / "a.png", "cannot be written"),
        ("--json", tmp_path / "file" / "a.json", "cannot be written"),
    ):
        code, out, err = call(main, run, option, path)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {option} ({path})"), err
        assert words in err


def test_what_is_no_run_or_has_no_weights(tree: dict[str, Any], tmp_path: Path) -> None:
    code, _, err = call(main, tmp_path)
    assert (code, err) == (
        2,
        f"error: {tmp_path} is not a run folder: it has no config.yaml; give the folder of a run\n",
    )
    run = train(tree, train__epochs=1)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text + "old: 1\n")
    code, _, err = call(main, run)
    assert code == 2
    assert f"this version cannot read {run / 'config.yaml'}: `old` is not a key" in err
    (run / "config.yaml").write_text(text)
    (run / "best.safetensors").unlink()
    code, _, err = call(main, run)
    assert code == 2
    assert f"{run} has no best.safetensors: the best weights exist after the first evaluation of a run" in err
    assert call(main, run, "--weights", "last")[0] == 0


def test_data_that_has_moved_and_other_data_of_the_same_classes(
    tree: dict[str, Any], image_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.copytree(image_folder, root)
    run = train(tree, data__root=str(root), train__epochs=1)
    _, before, _ = call(main, run)
    moved = root.rename(tmp_path / "moved")
    code, _, err = call(main, run)
    assert code == 2
    assert f"`data.root` ({root}) " in err
    code, out, _ = call(main, run, "--set", f"data.root={moved}")
    assert (code, out) == (0, before)
    code, out, _ = call(main, run, "--set", f"data.root={moved}", "--set", "data.max_val_images=7")
    assert code == 0
    assert sum(int(line.split()[1]) for line in out.splitlines()[4:]) == 7
    code, _, err = call(main, run, "--set", "data.rot=x")
    assert (code, err) == (2, "error: `data.rot` is not a key: did you mean `data.root`?\n")
    (moved / "train" / "class_a").rename(moved / "train" / "another")
    (moved / "val" / "class_a").rename(moved / "val" / "another")
    code, out, _ = call(main, run, "--set", f"data.root={moved}")
    assert code == 0
    assert f"folders of {moved}/val that are no class of the run are left aside: another" in out
    assert f"{moved}/val has no images of these classes of the run: class_a" in out
    assert sum(int(line.split()[1]) for line in out.splitlines() if line.strip().startswith("class_")) == 15


def test_a_test_set_and_a_split_alone(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(image_folder, tmp_path / "images"))
    run = train(tree, data__root=str(root), train__epochs=1)
    _, expected, _ = call(main, run)
    shutil.copytree(root / "val", tmp_path / "alone" / "val")
    for place in ("alone", "alone/val"):  # class folders below val/, and in the root
        code, out, _ = call(main, run, "--set", f"data.root={tmp_path / place}")
        assert (code, out) == (0, expected)
    code, _, err = call(main, run, "--split", "test")
    assert code == 2
    assert "has no test folder (test or testing)" in err
    (root / "val").rename(root / "test")
    code, out, _ = call(main, run, "--split", "test")
    assert (code, out) == (0, expected)


def test_a_part_of_the_training_images_is_evaluated_again(tree: dict[str, Any], image_folder: Path) -> None:
    root = image_folder / "train"
    run = train(tree, data__root=str(root), data__val_fraction=0.3, train__epochs=1)
    row = read_json(run / "result.json")["best"]
    code, out, _ = call(main, run)
    assert code == 0
    assert out.splitlines()[0].startswith(f"loss {digits(row['loss'])}  top1 {digits(row['top1'])}")


def test_a_damaged_run_among_several_is_named_and_the_others_are_evaluated(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    good = train(tree, train__epochs=1)
    copies = {name: tmp_path / name for name in ("unread", "cut", "absent", "code", "twin")}
    for copy in copies.values():
        shutil.copytree(good, copy)
    (copies["unread"] / "config.yaml").write_text("a: [")
    os.truncate(copies["cut"] / "best.safetensors", 5000)
    (copies["absent"] / "classes.json").write_text("[]")
    text = (good / "config.yaml").read_text()
    (copies["code"] / "config.yaml").write_text(text.replace("name: test_vit", f"name: {__name__}:broken"))
    document = tmp_path / "scores.json"
    damaged = [copies[name] for name in ("unread", "cut", "absent", "code")]
    code, out, err = call(main, *damaged[:2], good, *damaged[2:], copies["twin"], "--json", document)
    assert code == 2
    assert [line.split(":")[0] for line in out.splitlines()[:3]] == [str(good), str(copies["twin"]), "ensemble of 2"]
    assert [entry["run"] for entry in read_json(document)] == [str(good), str(copies["twin"]), "ensemble of 2"]
    assert [line.split(" is left out: ")[0] for line in err.splitlines()] == [f"error: {path}" for path in damaged]
    assert "ZeroDivisionError" in err
    code, out, _ = call(main, damaged[0], good, "--json", document)
    assert (code, out.splitlines()[0].split(":")[0]) == (2, str(good))
    assert [entry["run"] for entry in read_json(document)] == [str(good)]
    code, out, err = call(main, *damaged[1:3])
    assert (code, out, err.count(" is left out: ")) == (2, "", 2)


def broken(num_classes: int) -> None:
    """A model whose code fails."""
    raise ZeroDivisionError("broken")


@pytest.mark.slow
def test_several_ranks_leave_out_the_same_run(tree: dict[str, Any], tmp_path: Path) -> None:
    good = train(tree, train__epochs=1)
    cut = tmp_path / "cut"
    shutil.copytree(good, cut)
    os.truncate(cut / "best.safetensors", 5000)
    assert run_ranks(2, main, [str(cut), str(good), str(good)]) == [2, 2]


def test_runs_on_other_data_make_no_ensemble(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(image_folder, other)
    (other / "val" / "class_a" / "000.png").unlink()
    runs = [
        train(tree, run__name=name, data__root=str(root), train__epochs=1)
        for name, root in (("a", image_folder), ("b", other))
    ]
    code, out, err = call(main, *runs)
    assert code == 2
    assert out.startswith(f"{runs[0]}: loss ")
    assert "b has other training or validation data than the first run; evaluate it separately" in err
