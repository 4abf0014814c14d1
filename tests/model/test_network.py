"""Mean and standard deviation are the model's, unless the config gives them."""

import torch

from dist_train.config import parse_config
from dist_train.config.sections.data import DataConfig
from dist_train.data.augment.on_device import Normalise
from dist_train.model.build import build_model
from dist_train.model.network import mean_colour, statistics


def test_the_mean_colour_becomes_zero() -> None:
    tree = {
        "run": {"name": "a"},
        "model": {"name": "test_vit.r160_in1k", "pretrained": False},
        "data": {"root": "."},
        "optim": {"lr": 0.1},
        "train": {"global_batch": 2},
    }
    cfg = parse_config(tree)
    network = build_model(cfg.model, 3, 32, load=False)
    own = DataConfig(root=".", mean=(0.1, 0.2, 0.9), std=(0.5, 0.25, 1.0))
    assert statistics(cfg.data, network) == (network.mean, network.std)
    assert statistics(own, network) == ((0.1, 0.2, 0.9), (0.5, 0.25, 1.0))
    for data in (cfg.data, own):
        normalise = Normalise(data, network, torch.device("cpu"), channels_last=False)
        assert normalise.mean_colour == mean_colour(data, network)
        pixels = torch.tensor(normalise.mean_colour, dtype=torch.uint8).expand(1, 4, 4, 3)
        std = torch.tensor(statistics(data, network)[1]).view(1, 3, 1, 1)
        assert (normalise(pixels).abs() <= 0.51 / 255 / std).all()
