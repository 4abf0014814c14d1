"""The optimizers of timm. They import torch's DTensor and sympy, so only a run that names one imports this module."""

import difflib
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers

from dist_train.config.choices import OPTIMIZERS
from dist_train.errors import ConfigError
from dist_train.learning.optimizers.param_groups import Groups


def of_timm(groups: Groups, *, name: str, **options: Any) -> torch.optim.Optimizer:
    """Return the timm optimizer ``name``, with those of ``options`` that it supports.

    Raises:
        ConfigError: timm has no such optimizer, or this trainer does not support it.
    """
    name = _name_of_timm(name)
    info = get_optimizer_info(name)
    if not (info.has_betas and info.num_betas == 2):
        del options["betas"]
    return create_optimizer_v2(groups, opt=name, **options)  # type: ignore[no-any-return]


def _name_of_timm(name: str) -> str:
    """Return timm's name of an optimizer.

    Raises:
        ConfigError: timm has no such optimizer, or this trainer does not support it.
    """
    base = name.lower().removeprefix("lookahead_")
    if base != name.lower():
        raise ConfigError(
            f"`optim.name` ({name}): lookahead keeps a copy of the weights that checkpoints cannot save; use {base}"
        )
    known = list_optimizers()
    if base not in known:
        ours = list(OPTIMIZERS.rows)
        near = difflib.get_close_matches(base, list(dict.fromkeys([*known, *ours])), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"timm has {', '.join(known)}"
        raise ConfigError(
            f"`optim.name` ({name}) is unknown: it is neither {', '.join(ours)} nor an optimizer of timm; {hint}"
        )
    if get_optimizer_info(base).second_order:
        raise ConfigError(
            f"`optim.name` ({name}) needs second derivatives, which this trainer does not compute; use another optimizer"
        )
    return base
