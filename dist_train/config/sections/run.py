"""The section `run`: name, folder, seed, resume."""

from typing import Annotated, Literal

from pydantic import Field

from dist_train.config.types import FilePath, NonNegativeInt, Section


class RunConfig(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]
    """Names the run folder `<output_dir>/<name>`."""
    output_dir: FilePath = "runs"
    """Folder of the run folders."""
    seed: NonNegativeInt = 0
    """Data order, augmentation, head initialisation and dropout all follow from it."""
    deterministic: bool = False
    """Only deterministic algorithms: slower, and bit-exact on one kind of hardware."""
    resume: Literal["auto", "must", "never"] = "auto"
    """auto: continue if there is a checkpoint. must: fail if there is none. never: fail if there is one."""
