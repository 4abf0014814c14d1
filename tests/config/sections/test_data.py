"""The section `data`: formats, tables, shares."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            {"data__format": "pickle"},
            "`data.format` ('pickle') must be one of imagefolder, tiny_imagenet, tar, zip, hf, csv, torchvision, or package.module:callable",
        ),
        *(
            (
                {"data__format": name},
                f"`data.format`: {name}: it has no place for a single image; run `dist-train pack FOLDER OUT` once, then set data.format=tar",
            )
            for name in ("parquet", "Parquet")
        ),
        ({"data__format": "webdataset"}, "`data.format`: webdataset: it is called tar here: set data.format=tar"),
        ({"data__csv": {"separator": "::"}}, "`data.csv.separator` ('::') must have at most 1 character"),
        ({"data__val_fraction": 1.0}, "`data.val_fraction` (1.0) must be less than 1"),
        ({"data__workers": -1}, "`data.workers` (-1) must be greater than or equal to 0"),
        (
            {"data__value_range": [4095, 0]},
            "`data.value_range`: [4095, 0] must rise: write the value that becomes black first",
        ),
        ({"data__value_range": [7, 7]}, "`data.value_range`: [7, 7] must rise"),
        ({"data__value_range": 12}, "`data.value_range` (12) must be a list, in square brackets"),
        ({"data__value_range": [0]}, "`data.value_range` ([0]) has too few values"),
        ({"data__max_pixels": 0}, "`data.max_pixels` (0) must be greater than 0"),
        ({"data__std": [0.0, 0.5, 0.5]}, "`data.std.0` (0.0) must be greater than 0"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
