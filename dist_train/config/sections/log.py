"""The section `log`: rows of metrics, TensorBoard, W&B, MLflow."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from dist_train.config.types import OwnClass, PositiveInt, Section

MOST_PROFILED = 100
"""A trace of more steps is too large to look at."""


class WandbConfig(Section):
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: on if you ask for W&B by a key of this section, by a variable such as `WANDB_MODE`, or by `wandb login`; then
    online if the server answers, else offline."""
    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] | None = None
    """`WANDB_PROJECT` or `dist_train` if not given."""
    entity: str | None = None
    """User or team that owns the project; the default of your API key if not given."""
    name: str | None = None
    """`run.name` if not given."""
    group: str | None = None
    """Group of runs (an experiment) that this run belongs to."""
    job_type: str | None = None
    """Kind of run within its group, such as train or eval."""
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """Labels by which W&B finds and filters runs."""
    notes: str | None = None
    """Description of the run, free text."""


class MlflowConfig(Section):
    mode: Literal["auto", "disabled"] = "auto"
    """auto: on if `uri` or the variable `MLFLOW_TRACKING_URI` is given."""
    uri: str | None = None
    """Tracking server (`http://host:5000`), database (`sqlite:///FILE`) or folder; `MLFLOW_TRACKING_URI` if not given."""
    experiment: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """`MLFLOW_EXPERIMENT_NAME` or `dist_train` if not given."""
    name: str | None = None
    """`run.name` if not given."""
    tags: dict[Annotated[str, Field(pattern=r"^[\w.\- ]+$", max_length=250)], str] = {}
    """Tags of the run by name, by which MLflow finds and filters runs."""

    @field_validator("uri")
    @classmethod
    def _no_password(cls, uri: str | None) -> str | None:
        if uri is not None and not uri.strip():
            raise ValueError(f"{uri!r} must be an address or a folder; leave the key out to use MLFLOW_TRACKING_URI")
        if uri is not None and urlsplit(uri).password:
            raise ValueError(
                "must not hold a password, which config.yaml would keep: give it by the variables MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or the whole address by MLFLOW_TRACKING_URI"
            )
        return uri


class LoggerConfig(Section):
    name: OwnClass
    """`package.module:Class`, a subclass of `dist_train.loggers.base.Logger`."""
    options: dict[str, Any] = {}
    """Keyword arguments of the class."""


class LogConfig(Section):
    every_steps: PositiveInt | None = None
    """Steps between two rows of training metrics. If not given: a tenth of an epoch, at most 50 steps."""
    tensorboard: bool = True
    """Write TensorBoard files into the run folder."""
    wandb: WandbConfig = WandbConfig.usual()
    """Weights & Biases. With `mode: auto`, any other key of this section turns it on."""
    mlflow: MlflowConfig = MlflowConfig.usual()
    """MLflow. On if `log.mlflow.uri` or `MLFLOW_TRACKING_URI` is given."""
    report: bool = False
    """Write `report.html` into the run folder when the run is done, by a process of its own (`python -m dist_train report`)."""
    images: bool = False
    """Draw `look.png` into the run folder when the run begins, as `dist-train look` does, and give it to TensorBoard,
    W&B and MLflow."""
    profile: tuple[PositiveInt, PositiveInt] | None = None
    """Write a trace of these steps, the first and the last, counted from the beginning of the run, on each rank into the folder
    `profile` of the run folder."""
    loggers: tuple[LoggerConfig, ...] = ()
    """Your own loggers, in addition to the built-in ones."""

    @field_validator("profile")
    @classmethod
    def _window(cls, window: tuple[int, int] | None) -> tuple[int, int] | None:
        if window and not window[0] <= window[1] < window[0] + MOST_PROFILED:
            raise ValueError(
                f"{list(window)} must be the first and the last of at most {MOST_PROFILED} steps, such as [20, 25]"
            )
        return window
