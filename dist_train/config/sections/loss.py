"""The section `loss`: the loss function and its options."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dist_train.config.choices import DISTILLATIONS, LOSSES
from dist_train.config.types import FilePath, Fraction, NonNegativeFloat, OwnClass, PositiveFloat, Section, Share


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class ClassBalanceConfig(Section):
    name: Literal["balanced", "effective_number"]
    """balanced: 1 / images. effective_number: (1 - beta) / (1 - beta ** images), as in Cui et al. (2019)."""
    power: PositiveFloat = 1.0
    """Exponent of the factors: 0.5 is half way between balanced and none."""
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.9999
    """Of effective_number: how fast more images of a class stop to count."""


class DistillConfig(Section):
    teacher: FilePath
    """Folder of a run with the same classes, whose best weights teach, or the name of a published model of timm or torchvision."""
    kind: Annotated[str, DISTILLATIONS] = "logits"
    """logits: the teacher's probabilities. hard: its most likely class. token: the same, for the second head of a model of
    timm with a distillation token (deit_*_distilled_*)."""
    temperature: PositiveFloat | None = None
    """Divisor of both outputs before the softmax, of logits; 2 if not given."""
    alpha: Share = 0.5
    """Share of the teacher in the loss; the labels have the rest."""

    @model_validator(mode="after")
    def _no_temperature_of_one_class(self) -> "DistillConfig":
        if self.temperature is not None and self.kind != "logits":
            raise ValueError(f"temperature has no effect with kind {self.kind}: remove it, or use kind logits")
        return self


class LossConfig(Section):
    name: Annotated[str, LOSSES] = "cross_entropy"
    """cross_entropy, bce, focal, binary_focal, asymmetric, soft_f1, mse, l1, huber, or `package.module:Class` for your own."""
    options: dict[str, Any] = {}
    """Keyword arguments of your own loss; of bce: target_threshold, sum_classes, pos_weight; of asymmetric: gamma_pos,
    gamma_neg, clip."""
    objective: OwnClass | None = None
    """`package.module:Class` of your own: Class(model) is a module that computes the loss from images and targets."""
    objective_options: dict[str, Any] = {}
    """Keyword arguments of your own objective."""
    distill: DistillConfig | None = None
    """Learn from a frozen teacher, too; off if not given."""
    label_smoothing: Fraction = 0.0
    """Label smoothing, for cross_entropy, bce, focal and binary_focal."""
    class_weights: dict[str, NonNegativeFloat] = {}
    """Class name -> factor on its loss; 1 for other classes. The loss is still the mean over samples."""
    class_balance: Annotated[ClassBalanceConfig | None, BeforeValidator(_named)] = None
    """Factors from the number of training images of each class: `balanced`, `effective_number`, or with options."""
    logit_adjustment: PositiveFloat | None = None
    """In training, add this factor times the log of each class's share of the training images to its logit (cross_entropy), as in
    Menon et al. (2021); 1 is usual."""
    gamma: NonNegativeFloat = 2.0
    """Focusing parameter of focal and binary_focal: a higher value gives easy samples less weight."""
    delta: PositiveFloat = 1.0
    """Error above which huber grows linearly instead of quadratically."""
    aux_weight: NonNegativeFloat = 0.3
    """Factor on the loss of each auxiliary head (GoogLeNet, Inception)."""
    l1: NonNegativeFloat = 0.0
    """Factor of an L1 penalty: the sum of absolute values of all trained parameters."""

    @model_validator(mode="after")
    def _one_kind_of_weights(self) -> "LossConfig":
        if self.class_balance is not None and self.class_weights:
            raise ValueError("class_balance and class_weights both weight the classes: remove one of them")
        return self

    @model_validator(mode="after")
    def _one_objective(self) -> "LossConfig":
        if self.distill is not None and self.objective is not None:
            raise ValueError("distill is an objective of its own: remove it or `loss.objective`")
        return self
