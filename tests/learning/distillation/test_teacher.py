"""Teachers: runs and published models, their images and classes, and whole runs that learn from them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import dist_train
import dist_train.training.attempt
from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.learning.distillation import teacher
from dist_train.learning.distillation.teacher import Teacher, is_run, open_teacher, teacher_model
from dist_train.model.network import Network
from tests.support.ranks import free_port, run_ranks
from tests.support.runs import changed, folder, rows, state_digest

ALONE = Dist.alone()
SAME = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLASSES = ["class_a", "class_b", "class_c"]


def of(module: nn.Module, size: int = 4) -> Network:
    return Network(module, frozenset(), (), (size, size), *SAME)


def test_its_images_are_its_own() -> None:
    """The student's images, normalised in its way, become what the teacher would have got."""
    pixels = torch.rand(2, 3, 4, 4)
    mine, theirs = ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)), ((0.4, 0.5, 0.6), (0.2, 0.3, 0.9))
    as_seen = [(pixels - torch.tensor(m).view(3, 1, 1)) / torch.tensor(s).view(3, 1, 1) for m, s in (mine, theirs)]
    module = nn.Flatten()
    found = Teacher(of(module), range(48), theirs, mine)(as_seen[0])
    torch.testing.assert_close(found, module(as_seen[1]))
    assert Teacher(of(module, 8), range(192), SAME, SAME)(pixels).shape == (2, 3 * 8 * 8)


def test_its_outputs_are_in_the_order_of_the_students_classes() -> None:
    found = Teacher(of(nn.Flatten()), [2, 0, 1], SAME, SAME)(
        torch.tensor([[[[7.0]], [[8.0]], [[9.0]]]]).expand(1, 3, 4, 4)
    )
    assert found[0].tolist() == [7.0, 7.0, 7.0]
    network = of(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert Teacher(network, [2, 0, 1], SAME, SAME)(torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 4, 4)).tolist() == [
        [2, 0, 1]
    ]


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"takes images of 3 channel\(s\), and `data.channels` is 4"):
        Teacher(of(nn.Flatten()), range(48), SAME, ((0.5,) * 4, (0.5,) * 4))


def test_models_by_name() -> None:
    assert teacher_model("resnet50.a1_in1k").source == "timm"
    assert teacher_model("vit_b_16.IMAGENET1K_V1").source == "torchvision"
    with pytest.raises(ConfigError, match=r"\(resnet5O\) is neither a run folder nor a model .* did you mean resnet50"):
        teacher_model("resnet5O")


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["a", "b"], r"has 1000 classes, and the data 2"),
        ([f"n{number:08}" for number in range(1000)], "has the classes of ImageNet in their usual order"),
    ],
)
def test_a_published_model_with_other_classes_is_refused(classes: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_teacher("resnet18.a1_in1k", classes, SAME, ALONE)


def test_a_published_model_teaches_with_its_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its file stands where the cache would have it."""
    published = timm.create_model("resnet18", num_classes=1000)
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    source = teacher.build_model.__globals__["pretrained"].WeightsSource("", None, ("weights.pth",))
    monkeypatch.setattr("dist_train.model.pretrained.obtain", lambda cfg: (tmp_path / "weights.pth", source))
    images = torch.randn(1, 3, 224, 224)
    given = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = open_teacher("resnet18.a1_in1k", [str(number) for number in range(1000)], given, ALONE)
    with torch.no_grad():
        torch.testing.assert_close(found(images), published.eval()(images))


@pytest.fixture
def taught(tree: dict[str, Any]) -> dict[str, Any]:
    """The config of a student, whose teacher has been trained, with another size and normalisation."""
    base = changed(tree, run__name="teacher", data__image_size=48, data__mean=[0.1, 0.1, 0.1], train__max_steps=1)
    result = dist_train.train(parse_config(base))
    student = changed(tree, loss={"distill": {"teacher": str(result.folder)}}, train__max_steps=4)
    return changed(student, checkpoint={"every_steps": 1, "keep": 100}, augment__mixup=0.8)


def _train(tree: dict[str, Any], names: list[str], ports: list[int], kept: int) -> None:
    """Train runs one after the other; the second start of a name continues from step ``kept``."""
    for number, (name, port) in enumerate(zip(names, ports, strict=True)):
        os.environ["MASTER_PORT"] = str(port)
        run = folder(changed(tree, run__name=name))
        if name in names[:number] and os.environ.get("RANK", "0") == "0":
            for checkpoint in sorted((run / "checkpoints").iterdir())[kept:]:
                shutil.rmtree(checkpoint)
        dist_train.train(parse_config(changed(tree, run__name=name)))


@pytest.mark.parametrize(
    "world_size", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_a_resumed_student_is_exact(taught: dict[str, Any], world_size: int) -> None:
    batch = (
        {"train__global_batch": 16, "train__micro_batch": 2}
        if world_size == 4
        else {"train__micro_batch": 12 // world_size // 3}
    )
    taught = changed(taught, **batch, model__name="test_resnet")
    run_ranks(world_size, _train, taught, ["straight", "resumed", "resumed"], [free_port() for _ in range(3)], 2)
    straight, resumed = (folder(changed(taught, run__name=name)) for name in ("straight", "resumed"))
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
    assert all(row["teacher_loss"] > 0 for row in rows(resumed, "train"))
    config = json.loads(next((resumed / "checkpoints").glob("*/manifest.json")).read_text())["config"]
    assert len(config["objective.teacher"]) == 64


def test_a_teacher_that_changes_or_has_other_classes_is_refused(taught: dict[str, Any]) -> None:
    from safetensors.torch import load_file, save_file

    dist_train.train(parse_config(changed(taught, train__max_steps=2)))
    path = Path(taught["loss"]["distill"]["teacher"])
    save_file(
        {name: value + 1 for name, value in load_file(path / "best.safetensors").items()}, path / "best.safetensors"
    )
    with pytest.raises(ConfigError, match=r"`objective.teacher` was"):
        dist_train.train(parse_config(changed(taught, train__max_steps=3, schedule__on_extend="restart")))
    (path / "classes.json").write_text(json.dumps(["class_a", "class_b", "class_d"]))
    with pytest.raises(ConfigError, match=r"has other classes than the data: class_c, class_d only on one side"):
        dist_train.train(parse_config(changed(taught, run__name="other")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"loss": {"distill": {"teacher": "a", "kind": "hard", "temperature": 2.0}}},
            "temperature has no effect with kind hard",
        ),
        ({"loss": {"distill": {"teacher": "a"}, "objective": "a.b:C"}}, "distill is an objective of its own"),
        (
            {"loss": {"name": "mse", "distill": {"teacher": "a"}}, "data__task": "regression", "eval__metric": "rmse"},
            "`loss.distill` needs one class per image",
        ),
    ],
)
def test_configs_that_make_no_sense_are_refused(tree: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(changed(tree, **changes))


def test_a_folder_is_a_run_and_a_name_is_not(tmp_path: Path) -> None:
    assert is_run(str(tmp_path))
    assert not is_run("resnet18")
    with pytest.raises(ConfigError, match=r"`loss.distill.teacher` \(x*\): File name too long; correct the path"):
        is_run("x" * 300)
