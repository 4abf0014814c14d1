"""Models by a folder or a repository of the hub: their description and weights, without network."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants

from dist_train.config import parse_config
from dist_train.config.sections.model import ModelConfig
from dist_train.errors import ConfigError
from dist_train.fetch import fetch
from dist_train.model.build import build_model
from dist_train.model.sources.hub import hub_model, public_name
from tests.support.runs import changed, train


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that timm wrote: its small ResNet with 7 classes."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(3)
    timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=7), str(folder), safe_serialization=True)
    return folder


@pytest.fixture
def cached(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in the cache of the hub, as the repository ``own/net``; the network is off."""
    repo = tmp_path / "hub" / "models--own--net"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    shutil.copytree(saved, repo / "snapshots" / "abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repo / "snapshots" / "abc"


def same_backbone(saved: Path, name: str, **options: Any) -> bool:
    network = build_model(ModelConfig(name=name, **options), 3, 32)
    weights = timm.create_model(f"local-dir:{saved}", pretrained=True).state_dict()
    assert network.module.get_parameter("fc.weight").shape == (3, weights["fc.weight"].shape[1])
    return all(
        torch.equal(value, weights[key]) for key, value in network.module.state_dict().items() if "fc." not in key
    )


def test_a_folder(saved: Path) -> None:
    assert same_backbone(saved, f"local-dir:{saved}")
    assert not same_backbone(saved, f"local-dir:{saved}", pretrained=False)


@pytest.mark.parametrize("name", ["hf-hub:own/net", "hf_hub:own/net", "hf-hub:own/net@abc"])
def test_a_repository_in_the_cache(saved: Path, cached: Path, name: str, tree: dict[str, Any]) -> None:
    assert cached.is_dir()
    assert same_backbone(saved, name)
    assert fetch(parse_config(changed(tree, model={"name": name}))).startswith("already there: ")


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("pretrained", [True, False])
def test_what_is_not_in_the_cache_says_how_to_fetch_it(pretrained: bool) -> None:
    with pytest.raises(
        ConfigError, match=r"\(hf-hub:own/other\): its config.json is not in .*dist_train.fetch --config"
    ):
        build_model(ModelConfig(name="hf-hub:own/other", pretrained=pretrained), 3, 32)


def test_a_description_without_weights(cached: Path) -> None:
    (cached / "model.safetensors").unlink()
    with pytest.raises(
        ConfigError, match=r"`model.pretrained` \(true\): the weights of hf-hub:own/net are not on this"
    ):
        build_model(ModelConfig(name="hf-hub:own/net"), 3, 32)
    with pytest.raises(ConfigError, match=r"has neither model.safetensors nor pytorch_model.bin; check the path"):
        build_model(ModelConfig(name=f"local-dir:{cached}"), 3, 32)
    assert build_model(ModelConfig(name="hf-hub:own/net", pretrained=False), 3, 32).image_size == (32, 32)


@pytest.mark.parametrize("text", ["{}", "no JSON", json.dumps({"architecture": 3}), json.dumps({"model_type": "bert"})])
def test_a_folder_that_describes_no_model_of_timms(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"has no config.json, which timm's `save_for_hf` writes; check the path"):
        build_model(ModelConfig(name=f"local-dir:{tmp_path}"), 3, 32)
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ConfigError, match=r"config.json does not describe a timm model"):
        build_model(ModelConfig(name=f"local-dir:{tmp_path}"), 3, 32)


def test_names() -> None:
    assert hub_model("resnet18") is None
    assert hub_model("my.models:net") is None
    with pytest.raises(ConfigError, match=r"`model.name` \(local-dir:\): write local-dir:FOLDER"):
        hub_model("local-dir:")


def test_a_run_trains_and_resumes_with_such_a_model(saved: Path, tree: dict[str, Any]) -> None:
    tree = changed(tree, model={"name": f"local-dir:{saved}"}, train__epochs=1)
    run = train(tree)
    assert (run / "best.safetensors").is_file()
    train(tree, train__epochs=2, schedule__on_extend="rescale")


def test_the_folder_of_a_local_model_is_not_published() -> None:
    assert public_name("local-dir:/home/me/models/vit") == "local-dir:vit"
    assert public_name("hf-hub:timm/vit") == "hf-hub:timm/vit"
