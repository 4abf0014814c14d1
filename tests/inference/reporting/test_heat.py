"""Where a model looked."""

import timm
import torch
from torch import Tensor, nn

from dist_train.inference.reporting.heat import heat_maps


class Sums(nn.Module):
    """Two outputs: the mean of the red channel, and the mean of the blue one."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.map = nn.Identity()
        self.last, self.num_features = last, 2
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0] = self.conv.weight[1, 2] = 1

    def forward(self, images_BCHW: Tensor) -> Tensor:
        found = self.conv(images_BCHW)
        return (
            self.map(found.permute(0, 2, 3, 1) if self.last else found)
            .flatten(1)
            .unflatten(1, (-1, 2) if self.last else (2, -1))
            .mean(1 if self.last else 2)
        )  # type: ignore[no-any-return]


def picture() -> Tensor:
    """Red in the upper left quarter, blue in the lower right one."""
    image = torch.zeros(1, 3, 8, 16)
    image[0, 0, :4, :8] = 1
    image[0, 2, 4:, 8:] = 1
    return image


def test_it_is_where_the_output_comes_from() -> None:
    images = picture().repeat(2, 1, 1, 1)
    for last in (False, True):
        heat = heat_maps(Sums(last).eval(), images, [0, 1])
        assert heat is not None
        assert torch.equal(heat, images[0, [0, 2]])


def test_transformers_and_convolutions_of_timm() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    for name in ("test_vit", "test_resnet", "test_efficientnet", "test_convnext", "test_vit2", "test_mambaout"):
        model = (
            timm.create_model(name, num_classes=3, img_size=64)
            if "vit" in name
            else timm.create_model(name, num_classes=3)
        )
        heat = heat_maps(model.eval(), images, [0, 2])
        assert heat is not None, name
        assert (heat.shape, float(heat.amin()), float(heat.amax())) == ((2, 64, 64), 0, 1), name
        assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_maps_has_none() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 16, 2)).eval()
    assert heat_maps(model, picture(), [0]) is None
