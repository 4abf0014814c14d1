"""One optimizer step."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer

from dist_train.config.plan import Plan
from dist_train.config.schema import Config
from dist_train.data.augment.on_device import DeviceAugment
from dist_train.data.dataset import Batch
from dist_train.distributed.stragglers import ForwardClock
from dist_train.distributed.strategies.base import Strategy
from dist_train.learning.clipping import Clip
from dist_train.learning.optimizers.build import set_lr
from dist_train.learning.schedule import lr_factor
from dist_train.seeding import fold_in, reseed
from dist_train.system.machine.clock import awake_s
from dist_train.training.parts.unused import unused_in_a_step
from dist_train.training.state import TrainState

AHEAD = 64
"""How many steps' numbers are computed at once: one step at a time takes five times as long, with cold CPU caches."""

_AT_ONCE = nullcontext()


@dataclass
class Stepper:
    """What a step needs besides the state.

    Attributes:
        wrapped: the module to train through: takes images and targets, returns the loss and other named scalars.
        before_update: to call before weights, moments and EMA change: a save may not have copied them yet.
        weights_N: factor on the loss of each training image (``data.csv.weight``), float32 [N] on the device.
        waited_s: the total time that steps have waited for data, in seconds.
    """

    cfg: Config
    plan: Plan
    strategy: Strategy
    wrapped: nn.Module
    augment: DeviceAugment
    batches: Iterator[Batch]
    forward: ForwardClock
    clip: Clip
    before_update: Callable[[], None]
    weights_N: Tensor | None = None
    waited_s: float = 0.0
    _numbers: dict[int, tuple[float, list[int]]] = field(default_factory=dict)

    def lr(self, step: int) -> float:
        """Return the learning rate of optimizer step ``step`` (the first is 0)."""
        return self.cfg.optim.lr * lr_factor(self.cfg.schedule, self.cfg.optim.lr, self.plan, step)

    def numbers(self, step: int) -> tuple[float, list[int]]:
        """Return the learning rate of ``step``, and one seed for each of its micro-batches."""
        if step not in self._numbers:
            coming = range(step, min(step + AHEAD, self.plan.total_steps))
            self._numbers = {number: (self.lr(number), self._keys(number)) for number in coming}
        return self._numbers[step]

    def _keys(self, step: int) -> list[int]:
        return micro_keys(self.cfg.run.seed, step, self.plan.accumulate, self.strategy.group.rank)

    def load(self, key: int, mixing: bool) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """Return the images of the next micro-batch, augmented, and its targets as the loss takes them.

        Args:
            key: of the random numbers of this micro-batch.
            mixing: whether Mixup and CutMix, if the config has them, mix the images.
        """
        began = awake_s()
        images, labels, indices, *drawn = next(self.batches)
        self.waited_s += awake_s() - began
        # Seed after loading: with data.workers=0, loading uses random numbers of this process too.
        reseed(key, self.strategy.devices)
        images, targets = self.augment(images, labels, key, *drawn, mixing=mixing)
        return images, targets if self.weights_N is None else (targets, self.weights_N[indices])


def micro_keys(seed: int, step: int, accumulate: int, rank: int) -> list[int]:
    """Return the key of the random numbers of each micro-batch of a step."""
    return [fold_in(seed, "micro", step, micro, rank) for micro in range(accumulate)]


def train_step(stepper: Stepper, state: TrainState) -> dict[str, Tensor]:
    """Accumulate the gradient of one global batch, clip, update weights and EMA. Never waits for the device.

    A step that is skipped leaves weights, moments, buffers and EMA as they were.

    Returns:
        Scalars of this rank, float32 [] on the device: ``loss``, ``grad_norm``, and the objective's own.
    """
    step = state.progress.step
    lr, keys = stepper.numbers(step)
    set_lr(state.optimizer, lr)
    extras = _add_gradients(stepper, state, keys)
    loss = extras.pop("loss")
    stepper.before_update()
    norm = state.precision.step(state.optimizer, stepper.clip)
    state.optimizer.zero_grad()
    finite = state.precision.finite
    if finite is not None:
        state.buffers.put_back_unless(finite)
    if state.ema is not None:
        state.ema.update(step + 1, finite)
    grad_norm = norm.to(loss.device, non_blocking=True)  # of gradients that may be in host memory
    state.sums.add(loss, grad_norm, extras)
    state.progress.step = step + 1
    return {"loss": loss, "grad_norm": grad_norm, **extras}


def _add_gradients(stepper: Stepper, state: TrainState, keys: list[int]) -> dict[str, Tensor]:
    """Add up the gradients of the micro-batches of a step. Return the objective's scalars, added in the same order.

    Raises:
        ConfigError: other ranks wait for gradients that a parameter did not get.
    """
    strategy, wrapped = stepper.strategy, stepper.wrapped
    mixing = stepper.plan.mixes(state.progress.step)
    total: dict[str, Tensor] = {}
    for micro, key in enumerate(keys, 1):
        last = micro == len(keys)
        images, targets = stepper.load(key, mixing)
        with _AT_ONCE if last else strategy.accumulate(wrapped):
            with stepper.forward:
                found = wrapped(images, targets)
            if len(keys) > 1:
                found = {name: value / len(keys) for name, value in found.items()}
            scalars = {name: value.detach() for name, value in found.items()}
            # A gradient of NaN shows all ranks, without a further collective, that something here is not finite.
            state.precision.backward(found["loss"], state.buffers.soundness(scalars["loss"], last))
        if micro == 1 and not last and stepper.cfg.model.cuda_graphs:
            _copy_gradients(state.optimizer)
        total = {name: value + scalars[name] for name, value in total.items()} if total else scalars
    if unused := strategy.unused(wrapped):
        raise unused_in_a_step(unused, strategy.group.rank)
    return total


def _copy_gradients(optimizer: Optimizer) -> None:
    """Copy the gradients out of the memory of CUDA graphs, which the next micro-batch overwrites (pytorch/pytorch#169545)."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad = parameter.grad.clone()
