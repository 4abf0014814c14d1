"""Targets as short texts."""

import torch

from dist_train.data.looking.captions import caption

FLOWERS = ["daisy", "rose", "tulip", "iris", "lily"]


def test_a_class_and_a_mixture_of_two() -> None:
    assert caption("classification", FLOWERS, torch.tensor(1)) == "rose"
    assert caption("classification", FLOWERS, torch.tensor([0.3, 0.0, 0.7, 0, 0])) == "0.7 tulip + 0.3 daisy"
    assert caption("classification", FLOWERS, torch.tensor([1.0, 0.0, 0, 0, 0])) == "daisy"


def test_label_smoothing_gives_every_class_a_share_that_is_not_named() -> None:
    smoothed = 0.9 * torch.tensor([0.25, 0.75, 0, 0, 0]) + 0.1 / 5
    assert caption("classification", FLOWERS, smoothed) in ("0.69 rose + 0.24 daisy", "0.69 rose + 0.25 daisy")
    assert caption("classification", ["a", "b"], torch.tensor([0.5, 0.5])) == "0.5 each"


def test_sets_of_labels() -> None:
    assert caption("multilabel", FLOWERS, torch.tensor([1.0, 0, 1, 0, 0])) == "daisy, tulip"
    assert caption("multilabel", FLOWERS, torch.zeros(5)) == "no label"
    assert caption("multilabel", FLOWERS, torch.tensor([1.0, 1, 1, 1, 0])) == "daisy, rose, tulip and 1 more"
    assert caption("multilabel", FLOWERS, torch.tensor([1.0, 0.25, 0, 0, 0])) == "1 daisy + 0.25 rose"
    assert caption("multilabel", FLOWERS, torch.ones(5)) == "daisy, rose, tulip and 2 more"
    assert caption("multilabel", ["only"], torch.ones(1)) == "only"
    assert caption("multilabel", ["only"], torch.zeros(1)) == "no label"


def test_numbers_and_names_that_a_terminal_would_obey() -> None:
    assert caption("regression", ["age", "size"], torch.tensor([3.25, -1])) == "age 3.25, size -1"
    assert caption("classification", ["a\x1b[2J", "b" * 40], torch.tensor(0)) == r"a\x1b[2J"
    assert caption("classification", ["a", "b" * 40], torch.tensor(1)) == "b" * 15 + "..."
