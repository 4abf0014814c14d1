"""A model of two thousand parameters; configs name it ``tests.old_runs.tiny_model:build``."""

from torch import nn


def build(num_classes: int) -> nn.Module:
    """Two convolutions with BatchNorm, dropout, and a linear head. No bias before a BatchNorm: its gradient is noise."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 24, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(24, num_classes),
    )
