"""The section `train`: length, batch, precision, EMA, early stopping."""

from typing import Annotated, Literal

from pydantic import Field

from dist_train.config.types import NonNegativeFloat, PositiveFloat, PositiveInt, Section, Walltime


class EarlyStoppingConfig(Section):
    patience: PositiveInt
    """Evaluations without an improvement before the run ends."""
    min_delta: NonNegativeFloat = 0.0
    """How much better an evaluation must be than the last one that counted, to count itself."""


class TrainConfig(Section):
    epochs: PositiveInt = 10
    """Passes over the training images."""
    max_steps: PositiveInt | None = None
    """Ends the run earlier than `epochs`, and the schedule with it."""
    global_batch: PositiveInt
    """Images in one optimizer step, over all ranks and accumulated micro-batches."""
    micro_batch: PositiveInt | None = None
    """Images in one forward pass on one rank; `global_batch / world_size` if not given."""
    precision: Literal["fp32", "amp_bf16", "amp_fp16", "fp16"] = "fp32"
    """fp16: all of the forward pass in half precision, but for BatchNorm; the master weights stay float32."""
    tf32: bool = True
    """Let the GPU round what fp32 multiplies to TF32."""
    clip_grad: PositiveFloat | None = None
    """Largest norm of the whole gradient."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights; `eval.weights` says whether it is evaluated."""
    early_stopping: EarlyStoppingConfig | None = None
    """Off if not given."""
    time_limit: Walltime | None = None
    """`[days-]hours:minutes:seconds` after which the run saves and stops."""
    nonfinite: Literal["error", "skip"] = "error"
    """What a NaN or infinite gradient does: end the run, or skip the step (at most 25 in a row)."""
