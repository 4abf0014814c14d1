"""The section `train`: length, batch, precision, EMA, early stopping."""

from typing import Annotated, Literal

from pydantic import Field

from dist_train.config.types import NonNegativeFloat, PositiveFloat, PositiveInt, Section, Walltime


class EarlyStoppingConfig(Section):
    patience: PositiveInt
    """Evaluations without improvement after which the run ends."""
    min_delta: NonNegativeFloat = 0.0
    """Smallest change of `eval.metric` that counts as an improvement."""


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
    clip_grad: PositiveFloat | None = None
    """Clip the gradient norm, over all parameters, to this value."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights; `eval.weights` chooses whether to evaluate it."""
    early_stopping: EarlyStoppingConfig | None = None
    """Off if not given."""
    time_limit: Walltime | None = None
    """Time (`[days-]hours:minutes:seconds`) after which the run saves and stops."""
    nonfinite: Literal["error", "skip"] = "error"
    """With a NaN or infinite gradient: stop the run, or skip the step (at most 25 in a row)."""
