"""The only thing that training changes, and the only thing that a checkpoint holds."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dist_train.config.sections.train import EarlyStoppingConfig
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.base import Strategy
from dist_train.evaluation.metrics import better
from dist_train.learning.ema import Ema
from dist_train.learning.optimizer import match_layouts
from dist_train.learning.own_parts import OwnParts
from dist_train.learning.precision import Precision
from dist_train.training.step_sums import StepSums


@dataclass
class Progress:
    """What cannot be derived from the step, beside it.

    Attributes:
        step: optimizer steps done.
        evaluated: the step of the last evaluation; -1 before the first.
        best: the best validation row so far, with its step.
        to_beat: the last score that was better than the one before it by ``train.early_stopping.min_delta``.
        evaluations_without_gain: since then; early stopping counts them.
        skipped: steps left out because the gradient was not finite.
    """

    step: int = 0
    evaluated: int = -1
    best: dict[str, float] | None = None
    last: dict[str, float] | None = None
    to_beat: float | None = None
    evaluations_without_gain: int = 0
    skipped: int = 0

    def note(self, scores: dict[str, float], metric: str, stopping: EarlyStoppingConfig | None) -> bool:
        """Take in the evaluation of this step, judged by ``metric``.

        Returns:
            Whether it is the best so far.
        """
        score, min_delta = scores[metric], stopping.min_delta if stopping else 0.0
        self.evaluated = self.step
        self.last = {"step": self.step, **scores}
        if self.to_beat is None or better(metric, score, self.to_beat, min_delta):
            self.to_beat, self.evaluations_without_gain = score, 0
        else:
            self.evaluations_without_gain += 1
        is_best = self.best is None or better(metric, score, self.best[metric])
        if is_best:
            self.best = self.last
        return is_best

    def out_of_patience(self, stopping: EarlyStoppingConfig | None) -> bool:
        """Return whether early stopping ends the run here."""
        return stopping is not None and self.evaluations_without_gain >= stopping.patience


@dataclass
class TrainState:
    """Model, objective, optimizer, EMA, loss scale, progress. ``model`` is the bare module, never its wrapper.

    ``own`` is what the objective holds besides the model.

    ``evaluated_model`` is what is evaluated and published: the model or its EMA, as ``eval.weights`` says.
    """

    model: nn.Module
    objective: nn.Module
    own: OwnParts
    strategy: Strategy
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    evaluated_model: nn.Module
    precision: Precision
    sums: StepSums
    progress: Progress

    @property
    def evaluated_part(self) -> Literal["model", "ema"]:
        """Where ``state_dict`` has the weights of ``evaluated_model``."""
        return "model" if self.evaluated_model is self.model else "ema"

    def share_buffers(self, group: Dist) -> None:
        """Give all ranks rank 0's buffers; every rank must call it."""
        group.broadcast_buffers(self.objective)
        if self.ema is not None:
            group.broadcast_buffers(self.ema.module)

    def state_dict(self, group: Dist) -> dict[str, Any]:
        """All of it; every rank must call this, since the running sums of every rank go in."""
        own = self.own.state_dict()
        extras = self.sums.extra_values()
        return {
            "model": self.strategy.state_dict(self.model),
            **({"objective": own} if own else {}),
            "optimizer": self.strategy.state_dict(self.optimizer),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "precision": self.precision.state_dict(),
            "sums": group.stack(self.sums.values()),
            **({"extras": {name: group.stack(value) for name, value in extras.items()}} if extras else {}),
            "progress": asdict(self.progress),
        }

    def load_state_dict(self, state: dict[str, Any], group: Dist) -> None:
        """Take over a saved state, in place.

        Running sums return to the ranks they came from; on another world size all ranks take their mean.
        """
        self.strategy.load_state_dict(self.model, state["model"])
        self.own.load_state_dict(state.get("objective", {}))
        self.strategy.load_state_dict(self.optimizer, state["optimizer"])
        match_layouts(self.optimizer)
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.precision.load_state_dict(state["precision"])
        extras = {name: _my_sums(sums, group) for name, sums in state.get("extras", {}).items()}
        self.sums.restore(_my_sums(state["sums"], group), extras)
        self.progress = Progress(**state["progress"])


def _my_sums(saved: Tensor, group: Dist) -> Tensor:
    """This rank's row of the saved sums [W, ...].

    With another world size every rank takes the mean of all rows: ``StepSums.read`` averages over ranks.
    """
    return saved[group.rank] if len(saved) == group.world_size else saved.mean(0)
