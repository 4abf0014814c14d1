"""The section `loss`: criterion and its options."""

from typing import Annotated, Any

from dist_train.config.choices import LOSSES
from dist_train.config.types import Fraction, NonNegativeFloat, OwnClass, PositiveFloat, Section


class LossConfig(Section):
    name: Annotated[str, LOSSES] = "cross_entropy"
    """cross_entropy, bce, focal, binary_focal, soft_f1, mse, l1, huber, or `package.module:Class` for your own."""
    options: dict[str, Any] = {}
    """Arguments of your own loss."""
    objective: OwnClass | None = None
    """`package.module:Class` of your own: called with the model, it returns a module that maps images and targets to the loss."""
    objective_options: dict[str, Any] = {}
    """Arguments of your own objective."""
    label_smoothing: Fraction = 0.0
    """Of class labels, for cross_entropy, bce, focal and binary_focal."""
    class_weights: dict[str, NonNegativeFloat] = {}
    """Factor on the loss of a class, by its name; the mean is still over samples. 1 for classes not given."""
    gamma: NonNegativeFloat = 2.0
    """Focusing parameter of focal and binary_focal: a higher value gives easy samples less weight."""
    delta: PositiveFloat = 1.0
    """Error from which huber counts absolute values instead of squares."""
    aux_weight: NonNegativeFloat = 0.3
    """Factor on the loss of each auxiliary head (GoogLeNet, Inception)."""
    l1: NonNegativeFloat = 0.0
    """Factor on the sum of absolute values of all trained parameters."""
