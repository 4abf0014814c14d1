"""Weights divided among real ranks: the numbers of DDP, exact resumes, any other number of ranks."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dist_train.config import parse_config
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import Dist, joined
from dist_train.distributed.strategies.fsdp import Fsdp
from dist_train.distributed.strategies.shards import local
from dist_train.distributed.strategies.zero2 import Zero2
from dist_train.errors import ConfigError
from dist_train.training.parts.given import Given, refuse_combinations
from dist_train.training.report.flops import training_flops
from dist_train.training.setup import build_strategy
from tests.support.objectives import Projection
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, resumes_exactly, rows, state_digest, train

OPTIM = {"name": "adamw", "lr": 0.005, "weight_decay": 0.05}
FSDP = {"distributed__strategy": "fsdp", "optim": OPTIM}

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": {
        "train__ema": 0.9,
        "train__clip": 0.5,
        "train__micro_batch": 3,
        "train__nonfinite": "skip",
        "optim": OPTIM | {"layer_decay": 0.8, "head_lr_scale": 2.0},
        "model__grad_checkpointing": True,
    },
    "sgd": {"optim": {"name": "sgd", "lr": 0.02}, "train__clip": {"mode": "value", "value": 0.01}},
    "convolutions": {"model__name": "test_resnet", "model__sync_bn": True, "train__ema": 0.9},
    "frozen": {"model__freeze": ["all_but_last:2"]},
    "unfrozen": {
        "model__freeze": "backbone",
        "model__unfreeze": {1: "blocks.1", 2: "all"},
        "optim": OPTIM | {"layer_decay": 0.8},
        "train__epochs": 3,
        "train__ema": 0.9,
    },
    "unfrozen with sgd": {
        "model__freeze": "backbone",
        "model__unfreeze": {1: "all"},
        "optim": {"name": "sgd", "lr": 0.02},
        "train__epochs": 2,
        "distributed__strategy": "zero2",
    },
    "lora": {"model__lora": {"rank": 2}, "train__ema": 0.9},
    "bf16": {"train__precision": "amp_bf16"},
    "fp16": {"train__precision": "amp_fp16", "train__clip": 1.0},
    "lora in bf16": {"model__lora": {"rank": 2, "base_dtype": "bf16"}, "train__precision": "amp_bf16"},
    "compiled blocks": {"model__compile": {"blocks": True}, "train__ema": 0.9, "distributed__timeout_s": 900},
}


def losses(run: Path) -> dict[tuple[int, str], float]:
    return {(row["step"], row["split"]): row["loss"] for row in rows(run)}


@pytest.mark.timeout(900)  # torch's CPU backend is a C++ compiler
@pytest.mark.parametrize(
    "variant", [name if name == "all" else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_losses_are_those_of_ddp_and_a_resumed_run_is_exact(tree: dict[str, Any], variant: str) -> None:
    """The resume begins in the middle of an epoch and of a row."""
    tree = changed(
        changed(tree, **FSDP, train__epochs=1, checkpoint={"every_steps": 1, "keep": 10}), **VARIANTS[variant]
    )
    parts = resumes_exactly(changed(tree, run__name="parts"), 2, kept=3)
    saved = {len(list(path.glob("state.?-of-2.safetensors"))) for path in (parts / "checkpoints").iterdir()}
    assert saved == {2}, "each rank saves its part"
    whole = train(tree, 2, run__name="whole", distributed__strategy="ddp")
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5 if "16" not in variant else 5e-3)
    for name in ("best.safetensors", "last.safetensors"):
        found, expected = (load_file(run / name) for run in (parts, whole))
        assert {key: value.shape for key, value in found.items()} == {k: value.shape for k, value in expected.items()}


@pytest.mark.slow
def test_parts_in_host_memory_give_the_same_bits(tree: dict[str, Any], capsys: Any) -> None:
    """The run with ``cpu_offload`` is stopped, and goes on without it."""
    tree = changed(changed(tree, **FSDP, train__epochs=1, checkpoint={"every_steps": 1, "keep": 10}), **VARIANTS["all"])
    offloaded = changed(tree, distributed__strategy={"name": "fsdp", "cpu_offload": True})
    parts = resumes_exactly(changed(offloaded, run__name="parts"), 2, kept=3)
    assert state_digest(parts) == state_digest(train(tree, 2, run__name="whole"))
    capsys.readouterr()
    resumes_exactly(changed(offloaded, run__name="changed"), 2, kept=3, distributed__strategy="fsdp")
    assert "`distributed.strategy` was fsdp with cpu_offload and is now fsdp; " in capsys.readouterr().out


@pytest.mark.slow
def test_a_teacher_is_whole_on_every_rank(tree: dict[str, Any]) -> None:
    tree = changed(tree, train__epochs=1, checkpoint={"every_steps": 1, "keep": 10})
    teacher = train(tree, run__name="teacher")
    tree = changed(tree, **FSDP, loss={"distill": {"teacher": str(teacher)}}, train__ema=0.9, train__micro_batch=3)
    parts = resumes_exactly(changed(tree, run__name="parts"), 2, kept=3)
    whole = train(tree, 2, run__name="whole", distributed__strategy="ddp")
    for row, expected in zip(rows(parts, "train"), rows(whole, "train"), strict=True):
        for column in ("loss", "label_loss", "teacher_loss"):
            assert row[column] == pytest.approx(expected[column], rel=1e-5), column


def _parts(cpu_offload: bool) -> dict[str, Any]:
    """What two ranks that differ at first have of a model, and what they do with it."""
    with joined(DistributedConfig(strategy="fsdp", timeout_s=30)) as group:
        torch.manual_seed(group.rank)
        strategy = build_strategy(group)
        strategy.cpu_offload = cpu_offload
        model = nn.Sequential(*(nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(2)), nn.Linear(3, 1))
        strategy.shard(model, list(model)[:2])
        held = sum(local(parameter).numel() for parameter in model.parameters())
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        images = torch.arange(6.0).view(2, 3) + group.rank
        model(images).square().sum().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        whole = [grad.full_tensor() for grad in grads]  # type: ignore[attr-defined]
        norm = strategy.clip(grads, 0.5)
        after = torch.cat([grad.full_tensor().flatten() for grad in grads])  # type: ignore[attr-defined]
        optimizer.step()
        state = [strategy.state_dict(part) for part in (model, optimizer)]
        state = group.from_main(lambda: state)
        with strategy.gathered(model), torch.no_grad():
            alone = model(images) if group.is_main else None  # a collective would wait for ever
        with torch.no_grad():
            together = model(images)
        strategy.load_state_dict(model, {name: value + 1 for name, value in state[0].items()})
        strategy.load_state_dict(optimizer, state[1])
        again = [strategy.state_dict(part) for part in (model, optimizer)]
        return {
            "held": held,
            "norm": (norm.item(), torch.cat([grad.flatten() for grad in whole]).norm().item(), after.norm().item()),
            "same": alone is None or torch.equal(alone, together),
            "moved": not group.is_main
            or all(torch.equal(again[0][name], value + 1) for name, value in state[0].items()),
            "moments": not group.is_main
            or torch.equal(again[1]["state"][0]["momentum_buffer"], state[1]["state"][0]["momentum_buffer"]),
            "counted": _counted(model),
            "shapes": [list(value.shape) for value in state[0].values()],
        }


def _counted(model: nn.Module) -> str:
    """What rank 0 alone gets when it counts operations."""
    try:
        return str(training_flops(model, (2, 3)))
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("cpu_offload", [False, True])
def test_parts_of_a_model(cpu_offload: bool) -> None:
    first, second = run_ranks(2, _parts, cpu_offload)
    assert first["held"] + second["held"] == 3 * 3 * 2 + 3 * 2 + 3 + 1
    assert abs(first["held"] - second["held"]) < 16
    assert first["shapes"] == [[3, 3], [3], [3, 3], [3], [1, 3], [1]]
    for found in (first, second):
        assert found["same"]
        assert found["moved"]
        assert found["counted"].startswith("a forward pass waits for all ranks")
        assert found["moments"]
        before, expected, after = found["norm"]
        assert before == pytest.approx(expected, rel=1e-6)
        assert after == pytest.approx(0.5, rel=1e-5)
    assert first["norm"][0] == second["norm"][0], "the same bits on all ranks"


@pytest.mark.slow
def test_a_run_goes_on_with_any_number_of_ranks_and_any_strategy(tree: dict[str, Any], capsys: Any) -> None:
    """With its usual eps, AdamW turns the rounding of a gradient of almost zero into a whole step, with DDP too."""
    tree = changed(
        tree,
        distributed__strategy="fsdp",
        optim=OPTIM | {"eps": 1e-3},
        train__max_steps=4,
        checkpoint={"every_steps": 1, "keep": 10},
        log__every_steps=1,
    )
    begun = {ranks: train(tree, ranks, run__name=f"begun{ranks}") for ranks in (1, 2, 3, 4)}
    begun[0] = train(tree, 2, run__name="begun0", distributed__strategy="ddp")
    for ranks, run in begun.items():
        for checkpoint in sorted((run / "checkpoints").iterdir())[2:]:
            shutil.rmtree(checkpoint)
        assert losses(run) == pytest.approx(losses(begun[1]), rel=1e-5), ranks
    capsys.readouterr()
    for before, now in [*itertools.permutations((1, 2, 3, 4), 2), (0, 2), (2, 0)]:
        name, strategy = f"from{before}to{now}", "fsdp" if now else "ddp"
        shutil.copytree(begun[before], folder(changed(tree, run__name=name)))
        run = train(tree, now or 2, run__name=name, distributed__strategy=strategy)
        assert losses(run) == pytest.approx(losses(begun[1]), rel=1e-5), name
        said = capsys.readouterr().out
        assert ("each step keeps its samples and learning rate" in said) == (0 in (before, now)), name
        if now == 0:
            assert "`distributed.strategy` was fsdp and is now ddp; each step" in said


def test_a_penalty_on_whole_weights_is_refused_where_they_are_dropped(tree: dict[str, Any]) -> None:
    tree = changed(tree, loss={"l1": 0.1})
    with pytest.raises(ConfigError, match=r"`loss.l1` \(0.1\) reads all weights .*; use zero2 or ddp"):
        Fsdp(Dist.alone(strategy="fsdp")).refuse(parse_config(changed(tree, distributed__strategy="fsdp")))
    Zero2(Dist.alone(strategy="zero2")).refuse(parse_config(changed(tree, distributed__strategy="zero2")))


def test_an_objective_given_in_code_is_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="may read weights outside the model's forward pass"):
        refuse_combinations(parse_config(changed(tree, distributed__strategy="fsdp")), Given(objective=Projection))


class Scaled(nn.Module):
    """A factor without a dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))


def _refused(kind: str) -> str:
    with joined(DistributedConfig(strategy="fsdp", timeout_s=30)) as group:
        model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        if kind == "scalar":
            model.append(Scaled())
        else:
            model[1][0].weight = model[0][0].weight  # type: ignore[index, union-attr]
        try:
            build_strategy(group).shard(model, list(model)[:2])
        except ConfigError as error:
            return str(error)
        return ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scalar", "two blocks share a weight"])
def test_a_model_that_torch_cannot_divide_is_refused_on_every_rank(kind: str) -> None:
    for message in run_ranks(2, _refused, kind):
        assert message.startswith("`distributed.strategy` (fsdp): torch cannot divide this model among ranks: ")
        assert message.endswith("; use ddp")


@pytest.mark.slow
def test_a_trial_of_some_steps(tree: dict[str, Any]) -> None:
    run = train(tree, 2, **FSDP, train__fast_dev_run=True)
    assert not run.exists()
