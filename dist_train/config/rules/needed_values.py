"""Keys that have no effect, or are wrong, unless other keys have certain values."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dist_train.config.values import value_of

if TYPE_CHECKING:
    from dist_train.config.schema import Config


PARTS_CAN_BE_DECODED: dict[str, Any] = {
    "augment.crop": "random_resized",
    "augment.device": False,
    "data.channels": 3,
    "data.bits": 8,
}
"""Key -> the value without which images are decoded whole."""


def decoded_whole(cfg: "Config") -> Iterator[str]:
    """Yield a line for each key with which ``data.fast_decode`` has no effect."""
    if not cfg.data.fast_decode:
        return
    values = cfg.model_dump()
    for key, value in PARTS_CAN_BE_DECODED.items():
        if value_of(values, key) != value:
            yield f"`data.fast_decode` (true) has no effect unless {key}={str(value).lower()}; remove one of the two"


SAME_FEATURES: dict[str, Any] = {
    "model.freeze": "backbone",
    "model.unfreeze": {},
    "model.drop_path": 0.0,
    "model.compile": False,
    "augment.device": False,
    "augment.hflip": 0.0,
    "augment.ops": [],
    "augment.erasing": 0.0,
    "augment.mixup": 0.0,
    "augment.cutmix": 0.0,
    "augment.size_schedule": None,
    "loss.objective": None,
    "loss.distill": None,
    "data.bad_images": "error",
}
"""Key -> the value with which an image has the same features in each epoch, and the loss needs no more than them."""


def trained_on_features(cfg: "Config") -> Iterator[str]:
    """Yield a line for each key with which the features of an image change, or the model needs more than them."""
    if not cfg.train.cached_features:
        return
    values = cfg.model_dump(mode="json")
    for key, needed in SAME_FEATURES.items():
        if value_of(values, key) != needed:
            yield _line(key, value_of(values, key), f"set {key}={_text(needed)}")
    if cfg.augment.crop == "random_resized":
        yield _line("augment.crop", cfg.augment.crop, "set augment.crop=center, squash or pad")
    if cfg.train.precision == "fp16":
        yield _line("train.precision", cfg.train.precision, "set train.precision=amp_fp16")


def _line(key: str, value: object, fix: str) -> str:
    return (
        f"`train.cached_features` (true) computes the features of each image once, for a head that trains alone, and `{key}` is "
        f"{_text(value)}; {fix}, or remove train.cached_features"
    )


def _text(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
