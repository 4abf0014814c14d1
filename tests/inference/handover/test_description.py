"""What ``model.json`` says of an exported model."""

from typing import Any

import pytest

from dist_train.data.augment.frame import Frame
from dist_train.inference.handover.description import _geometry


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (Frame("center", (224, 224), (248, 248)), {"resize_shorter_side_to": 248, "crop_middle": 224}),
        (Frame("center", (224, 320), (248, 355)), {"resize_to_cover": [248, 355], "crop_middle": [224, 320]}),
        (Frame("squash", (224, 224), (224, 224)), {"resize_to": [224, 224]}),
        (Frame("squash", (224, 224), (248, 248)), {"resize_to": [248, 248], "crop_middle": [224, 224]}),
        (
            Frame("pad", (224, 320), (248, 355), (1, 2, 3)),
            {"resize_to_fit_into": [248, 355], "crop_middle_or_pad_to": [224, 320], "pad_colour": [1, 2, 3]},
        ),
        (
            Frame("pad", (224, 224), (224, 224), (1, 2, 3)),
            {"resize_longer_side_to": 224, "pad_to": [224, 224], "pad_colour": [1, 2, 3]},
        ),
    ],
)
def test_how_to_make_an_image_square_is_described(frame: Frame, expected: dict[str, Any]) -> None:
    assert _geometry(frame) == expected
