"""LoRA (Hu et al., 2021) by peft: the backbone is frozen, small matrices beside some of its layers train.

The layer W x becomes W x + (alpha / rank) B A x, where only A [rank, in] and B [out, rank] train. B starts at zero, so the
model starts with the outputs that it had. The head trains whole.
"""

import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from dist_train.config.sections.model import LoraConfig
from dist_train.errors import ConfigError
from dist_train.model.lora.merged import is_adapted
from dist_train.model.network import Network

log = logging.getLogger(__name__)

USUAL = ("qkv", "proj", "fc1", "fc2", "mlp.0", "mlp.3")
"""The Linear layers of attention and MLP in the vision transformers of timm and torchvision."""

SHOWN = 8


def with_lora(network: Network, cfg: LoraConfig) -> Network:
    """Freeze the model, and add adapters to the layers that ``model.lora.targets`` names. The module is changed in place.

    Returns:
        The network, with the names of the weights that never change as ``base``.

    Raises:
        ConfigError: peft is not installed, a pattern matches no layer, or a layer cannot have such an adapter.
    """
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("`model.lora` needs peft: pip install peft (the extra `lora`), or remove the key")
    module = network.module
    if any(is_adapted(part) for part in module.modules()):
        raise ConfigError(
            "`model.lora`: the model already has adapters, of an earlier training of the same object; pass a function that "
            "builds a new one (model=lambda outputs: ...)"
        )
    targets = _targets(module, cfg, network.head)
    _inject(module, cfg, targets)
    for name in network.head:
        module.get_parameter(name).requires_grad_(True)
    base = frozenset(name for name, value in module.state_dict(keep_vars=True).items() if _is_frozen(value))
    if cfg.base_dtype == "bf16":
        _store_as_bf16(module)
    log.info("LoRA of rank %d on %d layers: %s", cfg.rank, len(targets), _some(targets))
    return replace(network, base=base)


def _inject(module: nn.Module, cfg: LoraConfig, targets: list[str]) -> None:
    import peft  # takes seconds, because it imports transformers

    options = {"r": cfg.rank, "lora_alpha": cfg.alpha, "lora_dropout": cfg.dropout, "bias": cfg.bias}
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(target_modules=targets, **options), module)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ConfigError(f"`model.lora` ({cfg.rank}, {_some(targets)}) is refused by peft: {error}") from error


def _targets(module: nn.Module, cfg: LoraConfig, head: frozenset[str]) -> list[str]:
    """Return the paths of the layers that get an adapter.

    Raises:
        ConfigError: a pattern matches no layer, or the rank is more than a layer has.
    """
    layers = dict(_candidates(module, head))
    if cfg.targets is None:
        usual = {path: layer for path, layer in layers.items() if isinstance(layer, nn.Linear)}
        found = [path for path in usual if any(_matches(path, pattern) for pattern in USUAL)]
        if not found:
            raise ConfigError(f"`model.lora.targets`: no Linear layer is called {', '.join(USUAL)}; {_give(layers)}")
    else:
        for pattern in cfg.targets:
            if not any(_matches(path, pattern) for path in layers):
                raise ConfigError(
                    f"`model.lora.targets` ({pattern}) matches no layer outside the head; {_give(layers)}"
                )
        found = [path for path in layers if any(_matches(path, pattern) for pattern in cfg.targets)]
    for path in found:
        _fits(path, layers[path], cfg.rank)
    return found


def _candidates(module: nn.Module, head: frozenset[str]) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """Yield the Linear and Conv2d layers outside the head.

    Not those inside of torch's own attention, which reads their weights without calling them.
    """
    attention = [f"{path}." for path, part in module.named_modules() if isinstance(part, nn.MultiheadAttention)]
    for path, layer in module.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d) or path.startswith(tuple(attention)):
            continue
        if not any(f"{path}.{name}" in head for name, _ in layer.named_parameters()):
            yield path, layer


def _matches(path: str, pattern: str) -> bool:
    """Return whether a pattern is the path of a layer, or its end.

    >>> _matches("blocks.0.attn.qkv", "qkv"), _matches("blocks.0.attn.qkv", "blocks.0.*"), _matches("a.qkv2", "qkv")
    (True, True, False)
    """
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*.{pattern}")


def _fits(path: str, layer: nn.Linear | nn.Conv2d, rank: int) -> None:
    matrix = layer.weight.flatten(1)
    full = min(matrix.shape)
    if rank > full:
        raise ConfigError(
            f"`model.lora.rank` ({rank}) is more than the rank that {path} can have ({full}); use {full} or less, or name "
            "other layers in `model.lora.targets`"
        )
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        raise ConfigError(
            f"`model.lora.targets`: {path} is a convolution in {layer.groups} groups, which peft cannot merge; use patterns "
            "that leave it out"
        )


def _give(layers: dict[str, nn.Linear | nn.Conv2d]) -> str:
    if not layers:
        return "this model has no Linear or Conv2d layer that an adapter can be added to; remove `model.lora`"
    return f"give patterns of names; the layers are {_some(list(layers))}"


def _some(paths: list[str]) -> str:
    return f"{', '.join(paths[:SHOWN])}{', ...' if len(paths) > SHOWN else ''}"


def _is_frozen(value: object) -> bool:
    return isinstance(value, nn.Parameter) and not value.requires_grad


def _store_as_bf16(module: nn.Module) -> None:
    """Store the frozen weights of Linear and Conv2d layers as bfloat16.

    Autocast rounds them in each forward pass anyway, so no output changes. Norms and embeddings, which it does not round,
    stay float32.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and _is_frozen(layer.weight):
            layer.weight.data = layer.weight.data.to(torch.bfloat16)


def without_effect(unused: list[str]) -> ConfigError | None:
    """Return the error for adapters among the parameters that get no gradient; None if there are none."""
    layers = sorted({name.partition(".lora_")[0] for name in unused if ".lora_" in name})
    if not layers:
        return None
    return ConfigError(
        f"`model.lora.targets`: an adapter of {_some(layers)} has no effect, because the model reads the weight of the layer "
        "without calling it; use patterns that leave these layers out"
    )
