"""From a config to a ranked table, on real ranks."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import save_file

from dist_train.config import parse_config
from dist_train.errors import DistTrainError
from dist_train.inference.probing.candidates import candidates
from dist_train.inference.probing.probe import probe
from tests.support.ranks import run_ranks
from tests.support.runs import changed


def _probed(tree: dict[str, Any], models: str | None, out: Path) -> int | str:
    cfg = parse_config(tree)
    try:
        return probe(cfg, candidates(cfg, models), "--config run.yaml", out)
    except DistTrainError as error:
        return str(error)


def _scores(out: Path) -> list[tuple[str, Any]]:
    return [(row["name"], row["verdicts"]) for row in json.loads(out.read_text())["models"]]


def test_models_are_ranked_and_the_others_named(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), weights)
    models = f"test_vit={weights},test_convnext={tmp_path / 'none.pth'},no_such_model"
    found = run_ranks(1, _probed, tree, models, tmp_path / "one.json")
    printed = "".join(capfd.readouterr())
    assert found == [2]
    assert "is left out" in printed
    assert "no_such_model" in printed
    assert "none.pth" in printed
    assert [name for name, _ in _scores(tmp_path / "one.json")] == ["test_vit=vit.safetensors"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_ranks_find_the_same(tree: dict[str, Any], tmp_path: Path) -> None:
    models = "test_vit,test_convnext"
    assert run_ranks(1, _probed, tree, models, tmp_path / "one.json") == [0]
    assert run_ranks(2, _probed, tree, models, tmp_path / "two.json") == [0, 0]
    assert _scores(tmp_path / "one.json") == _scores(tmp_path / "two.json")


def test_missing_weights_are_named_with_the_command_that_fetches_them(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    cfg = parse_config(changed(tree, model__pretrained=True))
    from dist_train.inference.probing.probe import _look_for_weights

    with pytest.raises(DistTrainError, match=r"fetch --config run\.yaml model\.source=timm model\.name=resnet18"):
        _look_for_weights(candidates(cfg, "resnet18")[0], "--config run.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_tables(tree: dict[str, Any], image_folder: Path, tmp_path: Path, task: str) -> None:
    for split in ("train", "val"):
        files = sorted((image_folder / split).rglob("*.*"))
        rows = [f"{path.relative_to(image_folder)},{i % 2},{(i + 1) % 2}" for i, path in enumerate(files)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,one,two", *rows]))
    tables = {"train": str(tmp_path / "train.csv"), "val": str(tmp_path / "val.csv"), "targets": ["one", "two"]}
    tree["data"] |= {"format": "csv", "task": task, "csv": tables}
    loss, tree["eval"]["metric"] = {"multilabel": ("bce", "map"), "regression": ("mse", "r2")}[task]
    tree["loss"] = {"name": loss}
    assert run_ranks(1, _probed, tree, None, tmp_path / "out.json") == [0]
    ((name, verdicts),) = _scores(tmp_path / "out.json")
    assert (name, set(verdicts)) == ("test_vit", {"knn", "linear"})
