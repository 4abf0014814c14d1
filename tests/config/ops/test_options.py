"""Options of operations: a number for a range, and what is refused."""

from typing import Any

import pytest

from dist_train.config.ops import options
from dist_train.config.types import Section


@pytest.mark.parametrize(
    ("section", "given", "found"),
    [
        (options.Rotation, {"degrees": 15}, {"degrees": (-15, 15)}),
        (options.Rotation, {"degrees": (-5, 10)}, {"degrees": (-5, 10)}),
        (options.ColorJitter, {"brightness": 0.25}, {"brightness": (0.75, 1.25), "contrast": (1, 1)}),
        (options.ColorJitter, {"saturation": 3}, {"saturation": (0, 4)}),
        (options.ColorJitter, {"hue": 0.125}, {"hue": (-0.125, 0.125)}),
        (options.Affine, {"shear": 8, "scale": (0.5, 2)}, {"shear": (-8, 8), "scale": (0.5, 2)}),
    ],
)
def test_a_number_is_a_range(section: type[Section], given: dict[str, Any], found: dict[str, Any]) -> None:
    values = section.model_validate(given).model_dump()
    assert {key: values[key] for key in found} == found


@pytest.mark.parametrize(
    ("section", "given"),
    [
        (options.Rotation, {}),
        (options.Rotation, {"degrees": -1}),
        (options.Rotation, {"degrees": (2, 1)}),
        (options.Rotation, {"degrees": True}),
        (options.ColorJitter, {}),
        (options.ColorJitter, {"hue": 0.6}),
        (options.ColorJitter, {"brightness": (-1, 1)}),
        (options.Blur, {"kernel_size": 4}),
        (options.Blur, {"sigma": (2, 1)}),
        (options.Posterize, {"bits": 0}),
        (options.Posterize, {}),
        (options.Solarize, {"threshold": 256}),
        (options.AutoAugment, {"policy": "mnist"}),
        (options.TrivialAugmentWide, {"num_magnitude_bins": 1}),
        (options.AugMix, {"severity": 11}),
        (options.Timm, {"policy": "rand-foo"}),
        (options.Timm, {}),
        (options.Nothing, {"p": 1}),
    ],
)
def test_what_is_refused(section: type[Section], given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        section.model_validate(given)
