"""Which names are those of splits."""

import pytest

from dist_train.data.formats.class_folders import split_names


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["cat", "test", "Val"], ["test", "Val"]),
        (["train2017", "val2017", "annotations"], ["train2017", "val2017"]),
        (
            ["images_test", "test-set", "testset", "dataset_train"],
            ["images_test", "test-set", "testset", "dataset_train"],
        ),
        (["seg_train", "seg_test", "seg_pred"], ["seg_train", "seg_test"]),
        (["seg_train", "cat"], []),
        (["crash_test", "test_tube", "contest", "valley", "training_shoe"], []),
        (["fold_1", "fold_2"], ["fold_1", "fold_2"]),
        (["fold", "2019", "2020"], []),
        (["", "_", "1"], []),
    ],
)
def test_names_of_splits(names: list[str], splits: list[str]) -> None:
    assert split_names(names) == splits
