"""The training state: the only object that training changes, and all that a checkpoint holds."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from dist_train.checkpoint.format import weights_file
from dist_train.config.schema import Config
from dist_train.config.sections.train import EarlyStoppingConfig
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.base import Strategy
from dist_train.distributed.strategies.shards import local
from dist_train.evaluation.better import better, better_scores
from dist_train.hooks.calls import Hooks
from dist_train.learning.ema import Ema
from dist_train.learning.optimizers.build import match_layouts
from dist_train.learning.own_parts import BASE, OwnParts, weights_sha256
from dist_train.learning.precision import Precision
from dist_train.learning.rank_buffers import RankBuffers
from dist_train.learning.step_buffers import StepBuffers
from dist_train.model.cells import buffers_put_back
from dist_train.model.lora.merged import plain_state
from dist_train.system.terminal import digits
from dist_train.training.step_sums import StepSums

if TYPE_CHECKING:
    from dist_train.training.parts.kept_weights import Kept


@dataclass
class Progress:
    """The step, and what cannot be derived from it.

    Attributes:
        step: the number of optimizer steps done.
        evaluated: the step of the last evaluation; -1 before the first.
        best: the validation scores of the best evaluation, and its step.
        last: the validation scores of the last evaluation, and its step.
        to_beat: the score that early stopping compares with: the last one that was an improvement of more than
            ``train.early_stopping.min_delta``.
        evaluations_without_gain: the number of evaluations since that improvement.
        skipped: the number of steps that did not update the weights because the gradient was not finite.
    """

    step: int = 0
    evaluated: int = -1
    best: dict[str, float] | None = None
    last: dict[str, float] | None = None
    to_beat: float | None = None
    evaluations_without_gain: int = 0
    skipped: int = 0

    def note(self, scores: dict[str, float], metric: str, stopping: EarlyStoppingConfig | None) -> bool:
        """Record the evaluation of this step, and compare its ``metric`` with the earlier ones.

        Returns:
            Whether this evaluation is the best so far.
        """
        score, min_delta = scores[metric], stopping.min_delta if stopping else 0.0
        self.evaluated = self.step
        self.last = {"step": self.step, **scores}
        if self.to_beat is None or better(metric, score, self.to_beat, min_delta):
            self.to_beat, self.evaluations_without_gain = score, 0
        else:
            self.evaluations_without_gain += 1
        is_best = self.best is None or better_scores(metric, scores, self.best)
        if is_best:
            self.best = self.last
        return is_best

    def out_of_patience(self, stopping: EarlyStoppingConfig | None) -> bool:
        """Return whether early stopping ends the run at this step."""
        return stopping is not None and self.evaluations_without_gain >= stopping.patience

    def early_end(self, metric: str, stopping: EarlyStoppingConfig | None) -> str | None:
        """Return why early stopping ends the run at this step; None if it does not."""
        if stopping is None or not self.out_of_patience(stopping):
            return None
        assert self.to_beat is not None
        assert self.last is not None
        count = self.evaluations_without_gain
        if math.isnan(self.to_beat):
            return f"early stopping: `{metric}` was NaN in all {count + 1} evaluations"
        gain = f" by more than {stopping.min_delta:g}" if stopping.min_delta else ""
        since = f"early stopping: `{metric}` did not improve{gain} on {digits(self.to_beat)} in {count} evaluation(s)"
        return f"{since}; now it is NaN" if math.isnan(self.last[metric]) else since


LEFT_OUT_IF_EMPTY = ("objective", "buffers", "hooks", "extras", "kept")
"""Parts of a saved state that most runs do not have."""


@dataclass
class TrainState:
    """Model, objective, optimizer, EMA, loss scale and progress.

    Attributes:
        model: the model itself, never a wrapper such as DDP.
        own: the parts of the objective outside the model.
        evaluated_model: the module that is evaluated and published: the model or its EMA, as ``eval.weights`` says.
        buffers: what a step does to buffers.
        rank_buffers: the buffers that each rank has for itself, and those that a model's state lacks.
        base: the names of the model's weights that never change, of which a checkpoint holds the SHA-256 only.
        kept: the evaluations whose weights ``checkpoint.keep_best`` keeps.
    """

    model: nn.Module
    objective: nn.Module
    own: OwnParts
    strategy: Strategy
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    evaluated_model: nn.Module
    precision: Precision
    buffers: StepBuffers
    rank_buffers: RankBuffers
    sums: StepSums
    progress: Progress
    hooks: Hooks
    base: frozenset[str] = frozenset()
    kept: "Kept" = field(default_factory=dict)

    @property
    def evaluated_part(self) -> Literal["model", "ema"]:
        """Return the key of ``state_dict`` under which the weights of ``evaluated_model`` are."""
        return "model" if self.evaluated_model is self.model else "ema"

    def plain_state(self) -> dict[str, Any]:
        """Return the state of ``evaluated_model``, whose adapters are merged: on rank 0 only. Every rank must call it."""
        module = self.evaluated_model
        state = self.strategy.state_dict(module)
        with self.strategy.gathered(module) if self.base else nullcontext():
            return plain_state(module, state) if self.strategy.group.is_main else {}

    def early_end(self, cfg: Config) -> str | None:
        """Return why early stopping or a hook ends the run at this step; None if neither does."""
        return self.progress.early_end(cfg.eval.metric, cfg.train.early_stopping) or self.hooks.ended

    def published(self, plain: dict[str, Any]) -> bytes | Literal["model", "ema"]:
        """Return the file of ``plain_state`` where a checkpoint does not hold these weights; else the part that holds them."""
        return weights_file(plain) if self.base else self.evaluated_part

    @contextmanager
    def shared_buffers(self, group: Dist) -> Iterator[None]:
        """Give all ranks the buffers of rank 0 for the block, and then their own again. Every rank must call it."""
        modules = [self.objective] if self.ema is None else [self.objective, self.ema.module]
        with buffers_put_back(*modules):
            for module in modules:
                group.broadcast_buffers(module)
            yield

    def state_dict(self, group: Dist) -> dict[str, Any]:
        """Return the state to save, with the running sums of every rank. Every rank must call it.

        Ranks that share weights return their own rows of them (``Piece``).
        """
        own, extras = self.own.state_dict(), self.sums.extra_values()
        buffers, hooks = self.rank_buffers.state_dict(group), self.hooks.state_dict(group)
        state = {
            "model": self._without_base(self.strategy.saved(self.model)),
            "objective": own,
            "buffers": buffers,
            "hooks": hooks,
            "optimizer": self.strategy.saved(self.optimizer),
            "ema": None if self.ema is None else self._without_base(self.strategy.saved(self.ema.module)),
            "precision": self.precision.state_dict(),
            "sums": group.stack(self.sums.values()),
            "extras": {name: group.stack(value) for name, value in extras.items()},
            "progress": asdict(self.progress),
            "kept": self.kept,
        }
        return {name: part for name, part in state.items() if name not in LEFT_OUT_IF_EMPTY or part}

    def changed_late(self, own_code: bool) -> Callable[[str], bool]:
        """Return the function that says of a name in ``state_dict`` whether only an update changes this tensor, and no forward pass.

        Args:
            own_code: a part of the training pass is code of the user, which may change anything.
        """
        weights = {f"state.model.{name}" for name, _ in self.model.named_parameters(remove_duplicate=False)}
        updated = () if own_code else ("state.optimizer.", "state.ema.")
        return lambda name: name.startswith(updated) or (not own_code and name in weights)

    def _without_base(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the part of a model's state that a checkpoint holds."""
        return {name: value for name, value in state.items() if name not in self.base} if self.base else state

    def _with_base(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return what ``_without_base`` returned, with the base weights that the model has."""
        own = self.model.state_dict() if self.base else {}
        return {**state, **{name: own[name] for name in self.base}}

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of all weights that never change and that a checkpoint does not hold. A resume compares them.

        Every rank must call it; those of rank 0 count.
        """
        state = self.strategy.state_dict(self.model) if self.base else {}
        base = {name: value for name, value in state.items() if name in self.base}

        def of_all() -> dict[str, str]:
            return self.own.hashes() | ({BASE: weights_sha256(base)} if base else {})

        return self.strategy.group.from_main(of_all)

    def nbytes(self) -> int:
        """Return the approximate number of bytes that this rank saves. Waits for no device and no rank; complete after the first step."""
        modules = [self.model] if self.ema is None else [self.model, self.ema.module]
        values = [value for module in modules for value in self._without_base(module.state_dict()).values()]
        values += [value for kept in self.optimizer.state.values() for value in kept.values()]
        values += self.own.state_dict().values()
        return sum(local(value).nbytes for value in values if isinstance(value, Tensor))

    def load_state_dict(self, state: dict[str, Any], group: Dist) -> None:
        """Load a saved state, in place.

        Each rank loads its own running sums; if the world size has changed, every rank loads their mean.
        """
        self.strategy.load_state_dict(self.model, self._with_base(state["model"]))
        if "objective" in state:
            self.own.load_state_dict(state["objective"])
        self.rank_buffers.load_state_dict(state.get("buffers", {}), group)
        self.buffers.note_finite()
        self.buffers.keep()
        self.strategy.load_state_dict(self.optimizer, state["optimizer"])
        match_layouts(self.optimizer)
        if self.ema is not None:
            self.strategy.load_state_dict(self.ema.module, self._with_base(state["ema"]))
            self.ema.copy_the_others()
        self.precision.load_state_dict(state["precision"])
        extras = {name: _my_sums(sums, group) for name, sums in state.get("extras", {}).items()}
        self.sums.restore(_my_sums(state["sums"], group), extras)
        self.progress = Progress(**state["progress"])
        self.kept = state.get("kept", {})
        self.hooks.load_state_dict(state.get("hooks", {}), group)


def _my_sums(saved: Tensor, group: Dist) -> Tensor:
    """Return this rank's row of the saved sums [W, ...].

    If the world size has changed, return the mean of all rows: ``StepSums.read`` averages over ranks, so this keeps
    the result.
    """
    return saved[group.rank] if len(saved) == group.world_size else saved.mean(0)
