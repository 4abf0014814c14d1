"""The section `train`: length, batch, precision, EMA, early stopping."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dist_train.config.types import (
    NonNegativeFloat,
    OwnClass,
    PositiveFloat,
    PositiveInt,
    Section,
    ShortSection,
    Walltime,
)


class HookConfig(ShortSection):
    main = "name"

    name: OwnClass
    """`package.module:Class`, a subclass of `dist_train.hooks.base.Hook`."""
    options: dict[str, Any] = {}
    """Keyword arguments of the class."""


class EarlyStoppingConfig(Section):
    patience: PositiveInt
    """Evaluations without improvement after which the run ends."""
    min_delta: NonNegativeFloat = 0.0
    """Smallest change of `eval.metric` that counts as an improvement."""


class ClipConfig(ShortSection):
    main = "value"

    value: PositiveFloat
    """norm: the largest norm. value: the largest absolute value. agc: the largest ratio to the norm of the weights, such as 0.01."""
    mode: Literal["norm", "value", "agc"] = "norm"
    """norm: of the gradient of all parameters. value: of each element. agc: of each row, except in the head (NFNets)."""


class EmaConfig(ShortSection):
    main = "decay"

    decay: Annotated[float, Field(gt=0, lt=1)]
    """Weight of the average at each update; the rest is the weight of the newest weights."""
    warmup: bool = False
    """Begin with a smaller decay: at update n at most 1 - n^(-2/3), as timm does."""
    every: PositiveInt = 1
    """Steps from one update to the next."""


TRIAL_STEPS = 3
"""Of `fast_dev_run: true`. The second step reads what the first one wrote, and DDP's third has its final gradient buckets."""


class TrainConfig(Section):
    epochs: PositiveInt = 10
    """Passes over the training images."""
    max_steps: PositiveInt | None = None
    """Largest number of steps: ends the run, and its schedule, before `epochs`."""
    global_batch: PositiveInt
    """Images in one optimizer step, over all ranks and all accumulated micro-batches."""
    micro_batch: PositiveInt | Literal["auto"] | None = None
    """Images in one forward pass on one rank; `global_batch / world_size` if not given. auto: the largest number that fits every
    rank, found when the run begins and kept in its folder; after out of memory, the next start uses a smaller one."""
    micro_batch_may_change: bool = False
    """Let `micro_batch: auto` use a smaller number after out of memory, although the model has a BatchNorm that trains, whose
    statistics are over one micro-batch."""
    precision: Literal["fp32", "amp_bf16", "amp_fp16", "fp16"] = "fp32"
    """fp16: the whole forward pass in half precision except BatchNorm; the master weights stay float32."""
    tf32: bool = True
    """Allow the GPU to use TF32 in fp32 multiplications."""
    clip: ClipConfig | None = None
    """Clip gradients. A number is the largest norm; `{mode: value | agc, value: X}` for other ways."""
    ema: EmaConfig | None = None
    """Exponential moving average of the weights; `eval.weights` chooses whether to evaluate it. A number is the decay."""
    early_stopping: EarlyStoppingConfig | None = None
    """Off if not given."""
    time_limit: Walltime | None = None
    """Time (`[days-]hours:minutes:seconds`) after which the run saves and stops."""
    pause_epoch: PositiveInt | None = None
    """Save and stop after this epoch. Schedules keep their full length: a start with a larger value, or null, goes on."""
    fast_dev_run: bool | PositiveInt = False
    """Only try the config: this many steps (true: 3), an evaluation, a checkpoint that is read back and continued from. Loggers
    are off, a run of this name stays as it is, and nothing is kept."""
    cached_features: bool = False
    """With `model.freeze: backbone` and no random augmentation: compute the features of each image once per start, and train the
    head on them."""
    nonfinite: Literal["error", "skip"] = "error"
    """With a NaN or infinite gradient: stop the run, or skip the step (at most 25 in a row)."""

    @property
    def trial_steps(self) -> int | None:
        """The steps of ``fast_dev_run``; None if it is off."""
        return TRIAL_STEPS if self.fast_dev_run is True else self.fast_dev_run or None
