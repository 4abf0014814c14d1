"""The section `log`: rows of metrics, TensorBoard, W&B."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dist_train.config.types import OwnClass, PositiveInt, Section


class WandbConfig(Section):
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: off unless asked for: by a key of this section, a variable such as `WANDB_MODE`, or `wandb login`; then online
    if the server answers, else offline."""
    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] | None = None
    """`WANDB_PROJECT` or `dist_train` if not given."""
    entity: str | None = None
    """User or team that owns the project; the key's own if not given."""
    name: str | None = None
    """`run.name` if not given."""
    group: str | None = None
    """The experiment that this run belongs to."""
    job_type: str | None = None
    """What kind of run it is in its group."""
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """To find and filter runs by."""
    notes: str | None = None
    """Free text."""


class LoggerConfig(Section):
    name: OwnClass
    """`package.module:Class`, a subclass of `dist_train.loggers.base.Logger`."""
    options: dict[str, Any] = {}
    """Arguments of the class."""


class LogConfig(Section):
    every_steps: PositiveInt | None = None
    """Steps between two rows of training metrics. If not given: a tenth of an epoch, at most 50."""
    tensorboard: bool = True
    """Write TensorBoard files into the run folder."""
    wandb: WandbConfig = WandbConfig()
    """Weights & Biases; any key of this section but `mode` asks for it."""
    loggers: tuple[LoggerConfig, ...] = ()
    """Loggers of your own, beside the others."""
