"""The section `loss`: the loss function and its options."""

from typing import Annotated, Any

from dist_train.config.choices import LOSSES
from dist_train.config.types import Fraction, NonNegativeFloat, OwnClass, PositiveFloat, Section


class LossConfig(Section):
    name: Annotated[str, LOSSES] = "cross_entropy"
    """cross_entropy, bce, focal, binary_focal, soft_f1, mse, l1, huber, or `package.module:Class` for your own."""
    options: dict[str, Any] = {}
    """Keyword arguments of your own loss."""
    objective: OwnClass | None = None
    """`package.module:Class` of your own: Class(model) is a module that computes the loss from images and targets."""
    objective_options: dict[str, Any] = {}
    """Keyword arguments of your own objective."""
    label_smoothing: Fraction = 0.0
    """Label smoothing, for cross_entropy, bce, focal and binary_focal."""
    class_weights: dict[str, NonNegativeFloat] = {}
    """Class name -> factor on its loss; 1 for other classes. The loss is still the mean over samples."""
    gamma: NonNegativeFloat = 2.0
    """Focusing parameter of focal and binary_focal: a higher value gives easy samples less weight."""
    delta: PositiveFloat = 1.0
    """Error above which huber grows linearly instead of quadratically."""
    aux_weight: NonNegativeFloat = 0.3
    """Factor on the loss of each auxiliary head (GoogLeNet, Inception)."""
    l1: NonNegativeFloat = 0.0
    """Factor of an L1 penalty: the sum of absolute values of all trained parameters."""
