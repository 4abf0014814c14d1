"""The layers of a model in order, from the input to the output."""

from collections.abc import Iterator

from timm.models import group_parameters
from torch import nn

from dist_train.model.naming.patterns import paths


def is_block(module: nn.Module, names: list[str], head: frozenset[str]) -> bool:
    """Return whether a layer counts as a block: it has a weight matrix or kernel, and no parameter of the head."""
    return not head & set(names) and any(module.get_parameter(name).ndim > 1 for name in names)


def layers(module: nn.Module) -> list[list[str]]:
    """Return the names of the parameters of each layer, from the input to the output.

    timm's models use timm's own groups (the layers of ``optim.layer_decay``). In other models a layer is an item of a
    list of modules (nn.Sequential, nn.ModuleList).
    """
    if hasattr(module, "group_matcher"):
        groups = group_parameters(module, module.group_matcher(coarse=False))  # type: ignore[operator]
        return [groups[layer] for layer in sorted(groups)]
    parts = [path for path, _ in _parts("", module, sum(p.numel() for p in module.parameters()))]
    layers: dict[str, list[str]] = {"": [], **{path: [] for path in parts}}
    for name, _ in module.named_parameters():
        layers[next((path for path in paths(name) if path in layers), "")].append(name)
    return list(layers.values())


def _parts(prefix: str, module: nn.Module, total: int) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of a model in order. Replace a list of modules, or a part with most parameters, by its children."""
    inside_list = type(module) in (nn.Sequential, nn.ModuleList)
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        most = 2 * sum(p.numel() for p in child.parameters()) > total
        if type(child) in (nn.Sequential, nn.ModuleList) or (most and not inside_list and any(child.children())):
            yield from _parts(f"{path}.", child, total)
        else:
            yield path, child


def decay_order(module: nn.Module, head: frozenset[str]) -> list[list[str]]:
    """Return the names of the parameters of each layer of a model without ``group_matcher``, for ``optim.layer_decay``.

    As in timm's groups, norms belong to the layer before them, embeddings to the first layer, and the whole head is the last.

    Args:
        head: names of the parameters of the head.
    """
    root, *others = ([name for name in names if name not in head] for names in layers(module))
    found, started = [root], False
    for names in others:
        has_matrix = any(module.get_parameter(name).ndim > 1 for name in names)
        if has_matrix and started:
            found.append(names)
        else:
            found[-1].extend(names)
            started = started or has_matrix
    last = [name for name, _ in module.named_parameters() if name in head]
    return [names for names in (*found, last) if names]
