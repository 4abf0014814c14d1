"""The operations that torchvision v2 implements, on PIL images: one function for each row of ``config/ops/table.py``.

Where an operation has no random numbers besides whether it is applied, torchvision's functional does it; that is drawn as its
``Random...`` classes draw it (forms.sometimes).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from dist_train.data.augment.ops.forms import Place

PilOp = Callable[[Image.Image], Image.Image]


def _warped(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with ``interpolation`` and ``fill`` as torchvision takes them."""
    fill = options["fill"]
    return options | {"interpolation": InterpolationMode(options["interpolation"]), "fill": fill and list(fill)}


def vflip(_: Place) -> PilOp:
    return F.vertical_flip  # type: ignore[no-any-return]


def rotation(_: Place, **options: Any) -> PilOp:
    return v2.RandomRotation(**_warped(options))  # type: ignore[no-any-return]


def affine(_: Place, **options: Any) -> PilOp:
    return v2.RandomAffine(**_warped(options))  # type: ignore[no-any-return]


def perspective(_: Place, **options: Any) -> PilOp:
    made = v2.RandomPerspective(**_warped(options))
    # Not by a call, which would draw whether it is applied for a second time.
    return lambda image: made.transform(image, made.make_params([image]))


def elastic(_: Place, **options: Any) -> PilOp:
    return v2.ElasticTransform(**_warped(options))  # type: ignore[no-any-return]


def color_jitter(_: Place, **options: Any) -> PilOp:
    return v2.ColorJitter(**options)  # type: ignore[no-any-return]


def grayscale(_: Place) -> PilOp:
    return partial(F.rgb_to_grayscale, num_output_channels=3)


def blur(_: Place, **options: Any) -> PilOp:
    return v2.GaussianBlur(**options)  # type: ignore[no-any-return]


def sharpness(_: Place, **options: Any) -> PilOp:
    return partial(F.adjust_sharpness, **options)


def solarize(_: Place, **options: Any) -> PilOp:
    return partial(F.solarize, **options)


def posterize(_: Place, **options: Any) -> PilOp:
    return partial(F.posterize, **options)


def autocontrast(_: Place) -> PilOp:
    return F.autocontrast  # type: ignore[no-any-return]


def equalize(_: Place) -> PilOp:
    return F.equalize  # type: ignore[no-any-return]


def invert(_: Place) -> PilOp:
    return F.invert  # type: ignore[no-any-return]


def trivial_augment_wide(_: Place, **options: Any) -> PilOp:
    """Müller and Hutter, 2021, arXiv 2103.10158."""
    return v2.TrivialAugmentWide(**_warped(options))  # type: ignore[no-any-return]


def auto_augment(_: Place, policy: str, **options: Any) -> PilOp:
    """Cubuk et al., 2018, arXiv 1805.09501."""
    return v2.AutoAugment(v2.AutoAugmentPolicy(policy), **_warped(options))  # type: ignore[no-any-return]


def augmix(_: Place, **options: Any) -> PilOp:
    """Hendrycks et al., 2019, arXiv 1912.02781."""
    return v2.AugMix(**_warped(options))  # type: ignore[no-any-return]
