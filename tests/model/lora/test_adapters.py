"""LoRA by peft: which layers get adapters, what trains, what is refused, and whole runs."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dist_train
import dist_train.training.attempt
from dist_train.checkpoint.stored import load
from dist_train.config import parse_config
from dist_train.config.sections.model import LoraConfig, ModelConfig
from dist_train.errors import ConfigError
from dist_train.learning.optimizers.param_groups import param_groups
from dist_train.model.build import build_model
from dist_train.model.lora import adapters
from dist_train.model.lora.adapters import with_lora
from dist_train.model.lora.merged import is_adapted
from dist_train.model.network import Network
from tests.support.ranks import free_port, run_ranks
from tests.support.runs import changed, folder, rows, state_digest

VIT = ModelConfig(name="test_vit", pretrained=False)
SMALL = LoraConfig(rank=4)


def build(cfg: ModelConfig = VIT, lora: LoraConfig = SMALL) -> Network:
    return with_lora(build_model(cfg, 3, 32, False), lora)


def adapted(network: Network) -> set[str]:
    return {path for path, part in network.module.named_modules() if is_adapted(part)}


def test_the_adapters_and_the_head_train_and_the_model_starts_as_it_was() -> None:
    plain = build_model(VIT, 3, 32, False)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = plain.module.eval()(images)
        network = with_lora(plain, SMALL)
        assert torch.equal(network.module.eval()(images), before), "B is zero"
    trains = {name for name, p in network.module.named_parameters() if p.requires_grad}
    assert {name for name in trains if ".lora_" not in name} == {"head.weight", "head.bias"}
    assert len(adapted(network)) == 6 * 4, "qkv, proj, fc1, fc2 of each block, not patch_embed.proj"
    parameters = {name for name, _ in network.module.named_parameters()}
    assert network.base == parameters - trains


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (("qkv",), {f"blocks.{i}.attn.qkv" for i in range(6)}),
        (("blocks.5.mlp.*", "blocks.0.attn.proj"), {"blocks.5.mlp.fc1", "blocks.5.mlp.fc2", "blocks.0.attn.proj"}),
        (("patch_embed.proj",), {"patch_embed.proj"}),
    ],
)
def test_targets_are_names_and_globs(targets: tuple[str, ...], found: set[str]) -> None:
    assert adapted(build(lora=LoraConfig(rank=3, targets=targets))) == found


def test_a_vision_transformer_of_torchvision() -> None:
    """The out_proj of torch's own attention is read without being called: an adapter would have no effect."""
    network = build(ModelConfig(source="torchvision", name="vit_b_32", pretrained=False))
    assert {path.partition("encoder_layer_")[2].partition(".")[2] for path in adapted(network)} == {"mlp.0", "mlp.3"}
    with pytest.raises(ConfigError, match=r"`model.lora.targets` \(out_proj\) matches no layer outside the head"):
        build(ModelConfig(source="torchvision", name="vit_b_32", pretrained=False), LoraConfig(targets=("out_proj",)))


@pytest.mark.parametrize(
    ("model", "lora", "words"),
    [
        ("test_vit", {"targets": ("qvk",)}, r"\(qvk\) matches no layer outside the head; .* blocks.0.attn.qkv"),
        ("test_vit", {"targets": ("qkv", "head")}, r"\(head\) matches no layer outside the head"),
        ("test_vit", {"rank": 65}, r"`model.lora.rank` \(65\) is more than the rank that .* can have \(64\)"),
        ("test_resnet", {}, "no Linear layer is called .* the layers are conv1"),
        ("test_efficientnet", {"targets": ("conv_dw",), "rank": 1}, "convolution in .* groups"),
    ],
)
def test_what_cannot_be_is_refused_by_name(model: str, lora: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(ModelConfig(name=model, pretrained=False), LoraConfig(**lora))


def test_a_model_that_has_adapters_is_refused() -> None:
    network = build()
    with pytest.raises(ConfigError, match="already has adapters"):
        with_lora(network, SMALL)


def test_without_peft_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"`model.lora` needs peft: pip install peft"):
        build()


@pytest.mark.parametrize(("bias", "count"), [("none", 1), ("lora_only", 1 + 24), ("all", 1 + 24 + 14)])
def test_biases(bias: Any, count: int) -> None:
    """24 of the layers with adapters, 13 of norms, 1 of the patches, 1 of the head."""
    network = build(lora=LoraConfig(rank=2, bias=bias))
    names = [name for name, p in network.module.named_parameters() if p.requires_grad and name.endswith("bias")]
    assert len(names) == count


def test_a_bf16_base_changes_no_output_under_autocast() -> None:
    outputs, sizes = [], []
    for dtype in ("fp32", "bf16"):
        torch.manual_seed(0)
        network = build(lora=LoraConfig(rank=4, base_dtype=dtype))  # type: ignore[arg-type]
        torch.manual_seed(1)
        for parameter in network.module.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.1)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            outputs.append(network.module.eval()(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))))
        sizes.append(sum(value.nbytes for name, value in network.module.state_dict().items() if name in network.base))
    assert torch.equal(*outputs)
    assert sizes[1] < 0.6 * sizes[0]


def test_layer_decay_scales_adapters_by_their_block() -> None:
    network = build()
    optim = parse_config(
        {
            "run": {"name": "a"},
            "model": {"name": "test_vit"},
            "data": {"root": "x"},
            "optim": {"lr": 1.0, "layer_decay": 0.5},
            "train": {"global_batch": 1},
        }
    ).optim
    scales = {p: g["lr_scale"] for g in param_groups(optim, network.module, network.head) for p in g["params"]}
    first, last = (network.module.get_parameter(f"blocks.{i}.mlp.fc1.lora_A.default.weight") for i in (0, 5))
    assert scales[last] == 2**5 * scales[first]
    assert scales[network.module.get_parameter("head.weight")] == 1


class Reads(nn.Module):
    """Reads the weight of a layer without calling it, as some attentions of timm do."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = nn.functional.linear(images.mean((2, 3)), self.fc1.weight).relu()
        return self.head(self.fc2(features))  # type: ignore[no-any-return]


def lora(tree: dict[str, Any], **overrides: Any) -> dict[str, Any]:
    more = {"model__lora": {"rank": 4, "dropout": 0.1}, "optim__name": "adamw", "optim__lr": 1e-2, "train__ema": 0.5}
    return changed(tree, **{**more, **overrides})


def test_an_adapter_without_effect_is_refused(tree: dict[str, Any]) -> None:
    tree = lora(tree, model={"name": f"{__name__}:Reads", "pretrained": False, "lora": {"rank": 2}})
    with pytest.raises(ConfigError, match="an adapter of fc1 has no effect, because the model reads the weight"):
        dist_train.train(parse_config(tree))


def _train_and_resume(tree: dict[str, Any], ports: list[int]) -> str:
    """Train a run whole, and one that loses its last checkpoints and is started again."""
    for name, port in zip(("straight", "resumed", "resumed"), ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        result = dist_train.train(parse_config(changed(tree, run__name=name)))
        assert result.folder is not None
        steps = sorted((result.folder / "checkpoints").iterdir())
        if name == "resumed" and port == ports[1] and os.environ.get("RANK", "0") == "0":
            for checkpoint in steps[3:]:
                shutil.rmtree(checkpoint)
    return str(result.status)


@pytest.mark.parametrize(
    "world_size", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_a_resumed_run_is_exact_and_its_checkpoints_hold_what_trains(tree: dict[str, Any], world_size: int) -> None:
    tree = lora(tree, checkpoint={"every_steps": 1, "keep": 100})
    run_ranks(world_size, _train_and_resume, tree, [free_port() for _ in range(3)])
    straight, resumed = (folder(changed(tree, run__name=name)) for name in ("straight", "resumed"))
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
    last = sorted((resumed / "checkpoints").iterdir())[-1]
    state = load(last)
    names = [name for part in ("model", "ema") for name in state[part]]
    assert all(".lora_" in name or name.startswith("head.") for name in names)
    assert not any(".lora_" in name for name in dist_train.load_run(resumed).model.state_dict())
    assert (last / "state.safetensors").stat().st_size < (resumed / "best.safetensors").stat().st_size


def test_the_base_must_be_there_and_the_same_at_a_resume(tree: dict[str, Any], tmp_path: Path) -> None:
    """The run itself needs no base: it publishes the merged model."""
    from safetensors.torch import load_file, save_file

    base = tmp_path / "base.safetensors"
    torch.manual_seed(3)
    save_file(build_model(VIT, 3, 32, False).module.state_dict(), base)
    tree = lora(tree, model__weights=str(base), train__max_steps=2, checkpoint={"every_steps": 1})
    result = dist_train.train(parse_config(tree))
    assert result.folder is not None
    tree = changed(tree, train__max_steps=4, schedule__on_extend="restart")
    other = {name: value + 0.1 if name == "norm.weight" else value for name, value in load_file(base).items()}
    save_file(other, base)
    with pytest.raises(ConfigError, match=r"the base weights are not those of .*step_00000002.*restore the file"):
        dist_train.train(parse_config(tree))
    base.unlink()
    with pytest.raises(ConfigError, match=r"base.safetensors"):
        dist_train.train(parse_config(tree))
    scores = dist_train.load_run(result.folder).evaluate()
    assert result.best is not None
    assert {name: scores[name] for name in ("top1", "loss")} == {name: result.best[name] for name in ("top1", "loss")}
