"""Distillation: learn from the labels and from a frozen teacher that sees the same images.

``config/choices.py`` lists the kinds; there is one function for each.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from dist_train.config.sections.loss import DistillConfig
from dist_train.errors import ConfigError
from dist_train.learning.distillation.teacher import open_teacher
from dist_train.learning.losses import Loss
from dist_train.learning.objective import Parts, Supervised

Matching = Callable[[Tensor, Tensor], Tensor]
"""From logits of student and teacher, float32 [B, K], to a scalar, the mean over the batch."""

USUAL_TEMPERATURE = 2.0


class Distillation(Supervised):
    """The mean of the usual loss and of the distance to a teacher: (1 - alpha) * loss + alpha * matching.

    Both see the same images, after augmentation, Mixup and CutMix. An L1 penalty counts whole.

    Args:
        teacher: from the same images to logits, without gradient.
        token: the model returns two outputs: the labels train the first, the teacher the second.
    """

    def __init__(self, parts: Parts, teacher: nn.Module, matching: Matching, token: bool = False) -> None:
        super().__init__(parts.trained, parts.loss, parts.autocast)
        self.teacher, self._matching = teacher, matching
        self._alpha, self._token = _config(parts).alpha, token

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        with self._autocast():
            outputs = self.model(images)
            wanted = self.teacher(images)
        main, second = outputs if self._token else (outputs, _main(outputs))
        matching = self._matching(second.float(), wanted.float())
        of_labels = self.loss(main, targets)
        assert isinstance(self.loss, Loss)
        loss = (1 - self._alpha) * of_labels + self._alpha * (matching + self.loss.penalty())
        return {"loss": loss, "label_loss": of_labels, "teacher_loss": matching}


def _main(outputs: Any) -> Tensor:
    """Return the outputs of the main head, without those of auxiliary heads."""
    main: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return main


def _config(parts: Parts) -> DistillConfig:
    assert parts.cfg.distill is not None
    return parts.cfg.distill


def _teacher(parts: Parts) -> nn.Module:
    return open_teacher(_config(parts).teacher, parts.classes, parts.images, parts.group)


def logits(parts: Parts) -> Distillation:
    """Learn the teacher's probabilities at a temperature (Hinton et al., 2015)."""
    return Distillation(parts, _teacher(parts), divergence(_config(parts).temperature or USUAL_TEMPERATURE))


def hard(parts: Parts) -> Distillation:
    """Learn the teacher's most likely class (Touvron et al., 2021: DeiT)."""
    return Distillation(parts, _teacher(parts), of_most_likely)


def token(parts: Parts) -> Distillation:
    """Have a second head learn the teacher's most likely class, from a distillation token (DeiT).

    Raises:
        ConfigError: the model has no second head.
    """
    if not hasattr(parts.model, "set_distilled_training"):
        raise ConfigError(
            f"`loss.distill.kind` (token): {type(parts.model).__name__} has no distillation token; use a model of timm such "
            "as deit_small_distilled_patch16_224, or kind hard"
        )
    parts.model.set_distilled_training(True)  # type: ignore[operator]
    return Distillation(parts, _teacher(parts), of_most_likely, token=True)


def of_most_likely(logits_BK: Tensor, wanted_BK: Tensor) -> Tensor:
    """Return the cross-entropy with the teacher's most likely class."""
    return F.cross_entropy(logits_BK, wanted_BK.argmax(1))


def divergence(temperature: float) -> Matching:
    """Return the divergence of the probabilities at a temperature T, times T^2."""

    def matching(logits_BK: Tensor, wanted_BK: Tensor) -> Tensor:
        mine, theirs = ((values / temperature).log_softmax(1) for values in (logits_BK, wanted_BK))
        return temperature**2 * F.kl_div(mine, theirs, log_target=True, reduction="batchmean")

    return matching
