"""Layouts and parts of a batch; ``test_predict_images.py`` predicts with them on two ranks."""

import timm
import torch
from torch import Tensor, nn

from dist_train.inference.predicting.layout import IMAGES_PER_THREAD, at_once, faster_channels_last

CPU = torch.device("cpu")


class Flattened(nn.Module):
    """A network that asks for the layout of its features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).view(len(images), -1)


def _blank(side: int = 32) -> Tensor:
    return torch.zeros(2, 3, side, side)


def test_convolutions_that_overlap_are_faster() -> None:
    state = torch.get_rng_state()
    for name, faster in (("test_efficientnet", True), ("test_resnet", True), ("test_vit", False)):
        model = timm.create_model(name, num_classes=3)
        torch.set_rng_state(state)
        assert faster_channels_last(model.eval(), _blank(160)) == faster, name
        assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_cannot_take_the_layout_and_one_that_may_keep_a_state_stay_as_they_are() -> None:
    assert not faster_channels_last(Flattened(), _blank()), "code of the user is not tried"
    of_a_library = type("Flattened", (Flattened,), {"__module__": "timm.models.flattened"})
    assert not faster_channels_last(of_a_library(), _blank())
    assert not faster_channels_last(timm.create_model("test_resnet"), _blank().to("meta"))


def test_a_cpu_gets_a_batch_in_parts() -> None:
    threads = torch.get_num_threads()
    pixels = torch.arange(3 * IMAGES_PER_THREAD * threads - 1)[:, None]
    parts = at_once(pixels, CPU)
    assert [len(part) for part in parts[:2]] == [IMAGES_PER_THREAD * threads] * 2
    assert torch.equal(torch.cat(parts), pixels)
    (whole,) = at_once(pixels, torch.device("cuda"))
    assert whole is pixels
