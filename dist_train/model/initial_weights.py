"""Initial weights from a file: matched by name and shape; the log names everything that does not match."""

import logging
import re
import sys
from collections.abc import Iterable, Mapping

import torchvision.models.vision_transformer as tv_vit
from torch import Tensor, nn
from torchvision.models import DenseNet

from dist_train.errors import ConfigError
from dist_train.model.input_channels import with_channels

log = logging.getLogger(__name__)

PREFIXES = ("module.", "model.", "_orig_mod.")
"""The prefixes that DDP, Lightning and torch.compile add to parameter names."""

OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)")
"""torchvision's published DenseNets still have old parameter names: ``norm.1`` instead of ``norm1``."""


def load_initial(
    module: nn.Module, weights: Mapping[str, Tensor], head: frozenset[str], source: str, channels: int = 3
) -> None:
    """Copy ``weights`` into ``module``. A head of another shape is skipped; the log names all other differences.

    Position embeddings for another image size are resized.

    Args:
        head: the names of the parameters of the head.
        source: the file name, for messages.
        channels: of the images. The first convolution of a model of RGB images is adapted to them.

    Raises:
        ConfigError: no tensor matched, or a tensor of the backbone has another shape.
    """
    own = module.state_dict()
    found = with_channels(own, _plain_names(weights, own), channels)
    if any(name not in own or (found[name].shape != own[name].shape and name not in head) for name in found):
        found = _adapted(module, found)
    misfits = [name for name in found.keys() & own.keys() if found[name].shape != own[name].shape]
    backbone = [
        f"{name} is {tuple(found[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        for name in sorted(misfits)
        if name not in head
    ]
    usable = {name: tensor for name, tensor in found.items() if name in own and name not in misfits}
    body = own.keys() - head
    if backbone or not usable.keys() & (body or head):
        what = "; ".join(backbone[:3]) or f"its names are {', '.join(sorted(found)[:3])} ..."
        raise ConfigError(
            f"`model.weights` ({source}) does not fit the model: {len(usable)} of {len(own)} tensors match; {what}. "
            "Check that the file is for this `model.name` and `data.image_size`"
        )
    module.load_state_dict(usable, strict=False)
    _report(module, usable.keys(), head, source)
    unused = sorted(name for name in found.keys() - usable.keys() if name not in head)
    if unused:
        log.info("weights: in the file, not used: %s", ", ".join(unused))


def _report(module: nn.Module, loaded: Iterable[str], head: frozenset[str], source: str) -> None:
    """Log how many parameters were loaded, and which are missing in the file."""
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    there = set(loaded)
    # Older files lack BatchNorm's step counters, which have no effect on the outputs.
    tensors = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    missing = sorted(tensors - there - head)
    count = sum(size for name, size in sizes.items() if name in there)
    what = f"weights: {count:,} of {sum(sizes.values()):,} parameters from {source}"
    if missing:
        log.warning("%s; not in the file, kept random: %s", what, ", ".join(missing))
    elif head - there:
        log.info("%s; only the head is new", what)
    else:
        log.info("%s; nothing is missing", what)


def _plain_names(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes from the names, but keep a prefix with which names of the model itself start."""
    plain = dict(weights)
    for prefix in PREFIXES * 2:
        if not any(name.startswith(prefix) for name in own):
            plain = {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
    return plain


def _adapted(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename old names and resize position embeddings, with the code of the library that the model is from."""
    if isinstance(module, tv_vit.VisionTransformer):
        return _torchvision_vit(module, weights)
    if isinstance(module, DenseNet):
        return {OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in weights.items()}
    family = sys.modules.get(type(module).__module__)
    adapt = getattr(family, "checkpoint_filter_fn", None) if family and family.__name__.startswith("timm.") else None
    if adapt is None:
        return weights
    try:
        return dict(adapt(dict(weights), module))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        log.info("weights: timm could not adapt the file to the model (%s); the file is used unchanged", error)
        return weights


def _torchvision_vit(module: tv_vit.VisionTransformer, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    positions = weights.get("encoder.pos_embedding")
    if positions is None or positions.shape == module.encoder.pos_embedding.shape:
        return weights
    try:
        return dict(tv_vit.interpolate_embeddings(module.image_size, module.patch_size, dict(weights)))
    except ValueError as error:
        log.info("weights: torchvision could not resize the position embedding: %s", error)
        return weights
