"""The augmentation policies that timm implements and names by strings, such as ``rand-m9-mstd0.5-inc1``."""

from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image
from timm.data import auto_augment as timm_policies
from timm.data.transforms import str_to_pil_interp

from dist_train.data.augment.ops.forms import Place

PilOp = Callable[[Image.Image], Image.Image]

TRANSLATION = 0.45
"""Largest shift, as a share of the shorter side, of timm's ``create_transform``. AugMix: 0.3."""


def of_timm(place: Place, policy: str, interpolation: str | None) -> PilOp:
    """Return a policy as timm's ``create_transform`` makes it.

    Args:
        interpolation: ``random``, or that of all operations; None: ``augment.interpolation``.
    """
    chosen = interpolation or place.interpolation
    params: dict[str, Any] = {
        "translate_const": int(min(place.height, place.width) * TRANSLATION),
        "img_mean": place.colour,
    }
    if chosen != "random":
        params["interpolation"] = str_to_pil_interp(chosen)
    made = _made(policy, params)
    for op in _operations(made):
        if op.aug_fn is timm_policies.posterize:
            op.aug_fn = posterize
    return made  # type: ignore[no-any-return]


def three_augment(place: Place) -> PilOp:
    """Return 3-Augment of DeiT III (Touvron et al., 2022, arXiv 2204.07118): timm's policy ``3a``."""
    return of_timm(place, "3a", None)


def _made(policy: str, params: dict[str, Any]) -> Any:
    if policy.startswith("rand"):
        return timm_policies.rand_augment_transform(policy, params)
    if policy.startswith("augmix"):
        return timm_policies.augment_and_mix_transform(policy, params | {"translate_pct": 0.3})
    return timm_policies.auto_augment_transform(policy, params)


def _operations(made: Any) -> Iterator[Any]:
    """Yield each operation of a policy."""
    if isinstance(made, timm_policies.AutoAugment):
        for chain in made.policy:
            yield from chain
    else:
        yield from made.ops


def posterize(image: Image.Image, bits_to_keep: int, **others: Any) -> Image.Image:
    """Keep the highest bits of each value. 0 bits or fewer make a black image, as with Pillow below 13, which then refuses.

    Some policies ask for it: ``rand-m9-mstd0.5-inc1`` for one in 43 of the posterized images.
    """
    if bits_to_keep <= 0:
        return Image.new(image.mode, image.size)
    return timm_policies.posterize(image, bits_to_keep, **others)  # type: ignore[no-any-return]
