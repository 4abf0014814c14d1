"""What is not trained, and how it behaves while the rest is."""

from torch import nn

from dist_train.config import ModelConfig


def freeze(module: nn.Module, cfg: ModelConfig, head: frozenset[str]) -> None:
    """Switch off the gradients of every parameter that ``model.freeze`` names."""
    if cfg.freeze == "backbone":
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in head)


def train_mode(module: nn.Module) -> None:
    """Like ``module.train()``, but every part with nothing left to train stays in eval mode.

    Otherwise frozen BatchNorms would go on to change their running statistics, and so the function that the
    frozen weights compute.
    """
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if part is not module and parameters and not any(p.requires_grad for p in parameters):
            part.eval()


def describe(module: nn.Module) -> str:
    """Trainable and total parameters, as a person reads them."""
    total = sum(p.numel() for p in module.parameters())
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return f"{trainable:,} of {total:,} parameters train"
