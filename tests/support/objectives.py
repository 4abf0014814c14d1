"""Objectives as a user writes them, each one class in one file."""

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Distillation(nn.Module):
    """Learn from the labels and from the outputs of a frozen teacher.

    Args:
        weights: a file with the teacher's weights, as a run's `last.safetensors`.
    """

    def __init__(self, model: nn.Module, name: str, weights: str, image_size: int, temperature: float = 2.0) -> None:
        super().__init__()
        tensors = load_file(weights)
        self.model, self.temperature = model, temperature
        teacher = timm.create_model(name, num_classes=len(tensors["head.bias"]), img_size=image_size)
        teacher.load_state_dict(tensors)
        self.teacher = teacher.requires_grad_(False)

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        outputs, t = self.model(images).float(), self.temperature
        with torch.no_grad():
            wanted = self.teacher(images).float()
        hard = F.cross_entropy(outputs, targets)
        soft = F.kl_div(
            (outputs / t).log_softmax(1), (wanted / t).log_softmax(1), log_target=True, reduction="batchmean"
        )
        return {"loss": 0.5 * hard + 0.5 * t**2 * soft, "hard": hard, "soft": soft}


class Features(nn.Module):
    """Train the model's features alone, through a sub-module path: the head gets no gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.model.forward_features(images).float().square().mean()  # type: ignore[operator, no-any-return]


class Projection(nn.Module):
    """A trained layer of the objective's own behind the model's features, and a buffer that changes."""

    def __init__(self, model: nn.Module, outputs: int = 3) -> None:
        super().__init__()
        self.model, self.layer = model, nn.Linear(64, outputs)
        self.register_buffer("centre", torch.zeros(outputs))

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        features = self.model.forward_head(self.model.forward_features(images), pre_logits=True)  # type: ignore[operator]
        outputs = self.layer(features).float()
        with torch.no_grad():
            self.centre.lerp_(outputs.mean(0), 0.1)
        logits = self.model(images).float()
        return {"loss": F.cross_entropy(outputs, targets) + F.cross_entropy(logits, targets), "spread": outputs.std()}


class MomentumTeacher(nn.Module):
    """A teacher that follows the model: it does not train, and changes."""

    changing = ("teacher",)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.teacher = nn.Linear(3, 3).requires_grad_(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        outputs = self.model(images).float()
        with torch.no_grad():
            self.teacher.weight.mul_(0.9)
        return F.cross_entropy(outputs + self.teacher(outputs).detach(), targets)


class SecretTeacher(MomentumTeacher):
    """The same, without saying so."""

    changing = ()
