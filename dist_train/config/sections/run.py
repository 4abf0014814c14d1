"""The section `run`: name, folder, seed, resume."""

from typing import Annotated, Literal

from pydantic import Field

from dist_train.config.types import FilePath, NonNegativeInt, Section


class RunConfig(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]
    """Name of the run; its folder is `<output_dir>/<name>`."""
    output_dir: FilePath = "runs"
    """Folder of the run folders."""
    seed: NonNegativeInt = 0
    """Seed of data order, augmentation, head initialisation and dropout."""
    deterministic: bool = False
    """Use only deterministic algorithms: slower, but bit-exact on the same kind of hardware."""
    resume: Literal["auto", "must", "never"] = "auto"
    """auto: continue if there is a checkpoint. must: fail if there is none. never: fail if there is one."""
