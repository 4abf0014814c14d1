"""The section `distributed`: strategy, timeout, and parameters without a gradient."""

from typing import Annotated, Literal

from pydantic import model_validator

from dist_train.config.choices import STRATEGIES
from dist_train.config.types import PositiveInt, Section, ShortSection


class StrategyConfig(ShortSection):
    main = "name"

    name: Annotated[str, STRATEGIES] = "auto"
    """auto: DDP under torchrun, DataParallel for one process that sees several GPUs, else neither. fsdp: each rank holds a part of
    every weight, gradient and moment, for models that outgrow a GPU. zero2: as fsdp, but with whole weights during a step."""
    cpu_offload: bool = False
    """With fsdp and zero2: keep these parts in host memory, and let the CPU update the weights."""

    @model_validator(mode="after")
    def _something_to_offload(self) -> "StrategyConfig":
        if self.cpu_offload and not STRATEGIES.find(self.name).shards:
            able = " or ".join(STRATEGIES.names(lambda row: row.shards))
            raise ValueError(
                f"cpu_offload (true) needs divided weights, and {self.name} does not divide them: use {able}, as in {{name: fsdp, cpu_offload: true}}"
            )
        return self


class DistributedConfig(Section):
    strategy: StrategyConfig = StrategyConfig.usual()
    """How ranks share the work: a name, or `{name: fsdp, cpu_offload: true}`."""
    timeout_s: PositiveInt = 600
    """Seconds that ranks wait for a slow rank; then every rank prints its stack and the job ends."""
    preflight: bool = False
    """Measure every rank for about three seconds before the training, and name nodes that are slow or compute wrongly."""
    numa_binding: bool = True
    """On machines with several NUMA nodes keep a rank and its loader processes on the cores near its GPU, among those that the job
    has, if every core is near a GPU, no rank loses cores, and SLURM or `torchrun --numa-binding` has not bound each rank."""
    gradient_dtype: Literal["fp32", "bf16"] = "fp32"
    """The format in which ranks exchange gradients. bf16: half the bytes, and 8 bits of each number. Needs DDP."""
    unused_parameters: Literal["error", "allow"] = "error"
    """Parameters without a gradient in a step: error stops the run; allow searches for them in each step (slower)."""

    def automatic(self) -> "DistributedConfig":
        """Return these values with the strategy ``auto``, for commands that do not train."""
        return self.model_copy(update={"strategy": StrategyConfig()})
