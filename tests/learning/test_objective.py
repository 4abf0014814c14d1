"""What training minimises, on real ranks: gradients, columns, state, and distillation from outside."""

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dist_train.config import parse_config
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.config.sections.loss import LossConfig
from dist_train.distributed.group import joined
from dist_train.errors import ConfigError
from dist_train.learning.objective import Supervised, TrainingPass, build_objective, check_result
from dist_train.training.setup import build_strategy
from tests.support.examples import code_below
from tests.support.objectives import Features, Projection
from tests.support.ranks import run_ranks
from tests.support.runs import changed, fails, folder, rows, state_digest, train

HERE = "tests.support.objectives"


def test_the_loss_is_computed_in_float32_whatever_the_forward_pass_computes_in() -> None:
    seen = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append((outputs.dtype, (outputs.float() @ outputs.float().T).dtype))
        return outputs.float().sum()

    def autocast() -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    Supervised(nn.Linear(4, 4), loss, autocast)(torch.ones(2, 4), torch.zeros(2))
    assert seen == [(torch.bfloat16, torch.float32)]


def test_extra_scalars_leave_the_graph_as_float32() -> None:
    class Two(nn.Module):
        def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
            return {"loss": images.sum(), "half": images.half().sum(), "count": torch.tensor(3)}

    found = TrainingPass(Two(), lambda: torch.autocast("cpu", enabled=False))(torch.ones(2, requires_grad=True), None)
    assert {name: (value.dtype, value.requires_grad) for name, value in found.items()} == {
        "loss": (torch.float32, True),
        "half": (torch.float32, False),
        "count": (torch.float32, False),
    }


class Forgetful(nn.Module):
    """Its model is in a list, where torch does not find it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.models = [model]


def no_module(model: nn.Module) -> int:
    return 3


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("tests.learning.test_objective:Forgetful", {}, "must hold the model as a sub-module"),
        ("tests.learning.test_objective:no_module", {}, "must be a torch.nn.Module, but is int"),
        (f"{HERE}:Features", {"size": 3}, r"`loss.objective_options` \({'size': 3}\) do not fit"),
        (f"{HERE}:Feature", {}, f"`loss.objective` .* {HERE} has no Feature"),
    ],
)
def test_what_is_not_an_objective_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_objective(LossConfig(objective=name, objective_options=options), None, nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"hard": torch.zeros(())}, "must return a loss with a gradient"),
        ({"loss": torch.zeros(())}, "must return a loss with a gradient"),
        ({"loss": torch.zeros(2, requires_grad=True)}, r"loss has shape \[2\]"),
        (
            {"loss": torch.zeros((), requires_grad=True), "lr": torch.zeros(())},
            "returns lr, but every row already has this column",
        ),
    ],
)
def test_what_is_not_a_result_is_refused(found: dict[str, Tensor], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_result(found)


def _gradients(kind: type[nn.Module], all_used: bool) -> dict[str, list[float] | None]:
    """What each parameter's gradient is for this rank's share of one batch, micro-batch by micro-batch, clipped."""
    with joined(DistributedConfig(timeout_s=30)) as group:
        torch.manual_seed(7 + group.rank)  # wrapping gives all ranks the weights of rank 0
        objective = kind(timm.create_model("test_vit", num_classes=3, img_size=32))
        torch.manual_seed(0)
        images, targets = torch.randn(8, 3, 32, 32), torch.arange(8) % 3
        strategy = build_strategy(group)
        wrapped = strategy.wrap(TrainingPass(objective, _no_autocast), all_used)
        mine = torch.arange(group.rank, 8, group.world_size).chunk(2)
        with strategy.accumulate(wrapped):
            (wrapped(images[mine[0]], targets[mine[0]])["loss"] / 2).backward()
        (wrapped(images[mine[1]], targets[mine[1]])["loss"] / 2).backward()
        grads = [p.grad for p in objective.parameters() if p.grad is not None]
        strategy.clip(grads, 0.1)
        return {n: None if p.grad is None else p.grad.flatten()[:50].tolist() for n, p in objective.named_parameters()}


def _no_autocast() -> Any:
    return torch.autocast("cpu", enabled=False)


@pytest.mark.parametrize(("kind", "all_used"), [(Features, False), (Projection, True)])
def test_gradients_are_the_same_on_both_ranks_and_in_one_process(kind: type[nn.Module], all_used: bool) -> None:
    """Whichever way an objective goes through the model, and with a layer of its own."""
    one, other = run_ranks(2, _gradients, kind, all_used)
    assert one == other
    [alone] = run_ranks(1, _gradients, kind, all_used)
    assert one.keys() == alone.keys()
    for name, gradient in alone.items():
        assert one[name] == (None if gradient is None else pytest.approx(gradient, rel=1e-3, abs=1e-6)), name
    assert (alone.get("layer.weight") is not None) == (kind is Projection)
    assert (alone["model.head.weight"] is None) == (kind is Features)


@pytest.fixture
def distilling(tree: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A config whose teacher is an earlier run, and whose student starts far from it."""
    tree = changed(tree, model__head={"init": "timm"})
    teacher = train(tree, run__name="teacher", optim__lr=0.1, train__epochs=1)
    options = {"name": "test_vit", "weights": str(teacher / "last.safetensors"), "image_size": 32}
    return changed(
        tree, loss={"objective": f"{HERE}:Distillation", "objective_options": options}, train__micro_batch=3, model__name="test_vit2",
        log__every_steps=4, checkpoint={"every_steps": 1, "keep": 100}, train__clip_grad=1.0,
    )  # fmt: skip


def test_distillation_from_a_file_of_weights_resumes_bit_for_bit(distilling: dict[str, Any]) -> None:
    """Killed between two log lines: their means hold the steps before."""
    straight, resumed = train(distilling, 2, run__name="straight"), train(distilling, 2, run__name="resumed")
    shutil.rmtree(resumed / "tensorboard", ignore_errors=True)
    for checkpoint in sorted((resumed / "checkpoints").iterdir())[6:]:
        shutil.rmtree(checkpoint)
    train(distilling, 2, run__name="resumed")
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
    first, *_, last = rows(straight, "train")
    assert first["loss"] == pytest.approx(0.5 * first["hard"] + 2.0 * first["soft"], rel=1e-5)
    assert last["soft"] < first["soft"], "the student comes closer to its teacher"
    assert {"objective", "extras"} & set(_saved(straight)) == {"extras"}, "the teacher is not in the checkpoint"


def _saved(run: Path) -> dict[str, Any]:
    from dist_train.checkpoint.stored import load

    return load(sorted((run / "checkpoints").iterdir())[-1])  # type: ignore[no-any-return]


def test_another_teacher_is_refused_by_name(
    distilling: dict[str, Any], tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    train(distilling, run__name="student", train__epochs=1)
    other = train(tree, run__name="other", run__seed=5, train__max_steps=1)
    shutil.copy(other / "last.safetensors", distilling["loss"]["objective_options"]["weights"])
    message = fails(changed(distilling, run__name="student", train__epochs=1), capsys)
    assert "`objective.teacher` was " in message
    assert "belongs to a run with other values of keys that change the weights" in message


@pytest.mark.parametrize("world_size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_what_trains_and_what_changes_is_in_the_state(tree: dict[str, Any], world_size: int) -> None:
    tree = changed(
        tree, loss__objective=f"{HERE}:Projection", checkpoint={"every_steps": 1, "keep": 100}, train__ema=0.9,
        optim={"name": "adamw", "lr": 1e-3, "head_lr_scale": 3.0},
    )  # fmt: skip
    straight, resumed = train(tree, world_size, run__name="straight"), train(tree, world_size, run__name="resumed")
    for checkpoint in sorted((resumed / "checkpoints").iterdir())[3:]:
        shutil.rmtree(checkpoint)
    train(tree, world_size, run__name="resumed")
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
    saved = _saved(straight)
    assert saved["objective"].keys() == {"layer.weight", "layer.bias", "centre"}
    assert saved["objective"]["centre"].abs().sum() > 0
    first = rows(straight, "train")[0]
    assert first["spread"] > 0


def test_a_teacher_that_changes_must_say_so(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tree = changed(tree, train__epochs=1)
    said = train(tree, run__name="said", loss__objective=f"{HERE}:MomentumTeacher")
    assert "teacher.weight" in _saved(said)["objective"]
    message = fails(changed(tree, run__name="secret", loss__objective=f"{HERE}:SecretTeacher"), capsys)
    assert "teacher changes while training" in message
    assert not list((folder(changed(tree, run__name="secret")) / "checkpoints").glob("step_*"))


@pytest.mark.parametrize("world_size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_an_objective_may_leave_parts_of_the_model_unused(tree: dict[str, Any], world_size: int) -> None:
    run = train(tree, world_size, loss__objective=f"{HERE}:Features", train__epochs=1)
    first, *_, last = rows(run, "train")
    assert last["loss"] < first["loss"]


@pytest.mark.parametrize("precision", [pytest.param("amp_bf16", marks=pytest.mark.slow), "amp_fp16"])
def test_an_objective_under_autocast(tree: dict[str, Any], precision: str) -> None:
    run = train(tree, 2, loss__objective=f"{HERE}:Projection", train__precision=precision, train__epochs=1)
    assert rows(run, "train")[-1]["spread"] > 0


def test_pure_fp16_is_refused(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(changed(tree, loss__objective=f"{HERE}:Projection", train__precision="fp16"), capsys)
    assert "`train.precision` (fp16) does not work with `loss.objective`; use amp_fp16" in message


def _with_the_example(tree: dict[str, Any]) -> int:
    module = ModuleType("example_objectives")
    (code,) = code_below("extending.md", "An objective")
    module.__dict__.update(F=F, Tensor=Tensor, nn=nn)
    exec(code, module.__dict__)
    sys.modules[module.__name__] = module
    from dist_train.training.attempt import main

    return main(parse_config(changed(tree, loss__objective=f"{module.__name__}:Smooth")))


def test_the_example_of_the_docs_trains(tree: dict[str, Any]) -> None:
    tree = changed(tree, train__epochs=1, loss__objective_options={"weight": 0.2})
    assert run_ranks(2, _with_the_example, tree) == [0, 0]
    assert all(row["distance"] > 0 for row in rows(folder(tree), "train"))
