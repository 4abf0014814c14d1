"""The operations of ``augment.ops``: one row for each. Imports no torch."""

from dataclasses import dataclass

from dist_train.config.choice_table import Choice, ChoiceTable
from dist_train.config.ops import options
from dist_train.config.types import Section


@dataclass(frozen=True)
class Op(Choice):
    """``build``: (``data.augment.ops.forms.Place``, **its options) -> a function from a PIL image to a PIL image.

    Attributes:
        options: the section that checks its options.
        p: how often it is applied where the config gives no ``p``, as its library does.
        device: it also works with ``augment.device``.
    """

    options: type[Section] = options.Nothing
    p: float | None = 1.0
    device: bool = False


_TORCHVISION = "dist_train.data.augment.ops.torchvision_ops"
_TIMM = "dist_train.data.augment.ops.timm_policies"

OPS = ChoiceTable(
    "augment.ops",
    {
        "vflip": Op(f"{_TORCHVISION}:vflip", p=0.5),
        "rotation": Op(f"{_TORCHVISION}:rotation", options=options.Rotation),
        "affine": Op(f"{_TORCHVISION}:affine", options=options.Affine),
        "perspective": Op(f"{_TORCHVISION}:perspective", options=options.Perspective, p=0.5),
        "elastic": Op(f"{_TORCHVISION}:elastic", options=options.Elastic),
        "color_jitter": Op(f"{_TORCHVISION}:color_jitter", options=options.ColorJitter),
        "grayscale": Op(f"{_TORCHVISION}:grayscale", p=0.1),
        "blur": Op(f"{_TORCHVISION}:blur", options=options.Blur),
        "sharpness": Op(f"{_TORCHVISION}:sharpness", options=options.Sharpness, p=0.5),
        "solarize": Op(f"{_TORCHVISION}:solarize", options=options.Solarize, p=0.5),
        "posterize": Op(f"{_TORCHVISION}:posterize", options=options.Posterize, p=0.5),
        "autocontrast": Op(f"{_TORCHVISION}:autocontrast", p=0.5),
        "equalize": Op(f"{_TORCHVISION}:equalize", p=0.5),
        "invert": Op(f"{_TORCHVISION}:invert", p=0.5),
        "trivial_augment_wide": Op(f"{_TORCHVISION}:trivial_augment_wide", options=options.TrivialAugmentWide),
        "auto_augment": Op(f"{_TORCHVISION}:auto_augment", options=options.AutoAugment),
        "augmix": Op(f"{_TORCHVISION}:augmix", options=options.AugMix),
        "three_augment": Op(f"{_TIMM}:three_augment"),
        "timm": Op(f"{_TIMM}:of_timm", options=options.Timm),
        "randaugment": Op(options=options.RandAugment, device=True),
    },
    own=Op(p=None),
    own_form="package.module:Class",
)
"""``randaugment`` has no function: its numbers are drawn with those of crop and flip (data/augment/draws.py), so that the
CPU and the device apply the same ones."""
