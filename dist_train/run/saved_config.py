"""The config that a run folder holds, and the config of a run that begins from its weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dist_train.config.load import load_config
from dist_train.config.schema import Config
from dist_train.errors import ConfigError
from dist_train.run.attempts import objects_from_code
from dist_train.run.folder import RunDir, must_be_a_run, must_be_readable
from dist_train.run.named_code import refuse_code_of_the_run

Which = Literal["best", "last"]


def run_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the config in a run folder.

    Args:
        overrides: ``key.path=value``, which replace values of the config.

    Raises:
        ConfigError: the path is not a run folder, or an override is wrong.
    """
    must_be_a_run(RunDir(path))
    try:
        cfg = load_config(RunDir(path).config, of_a_run=True)
    except ConfigError as error:
        raise ConfigError(f"this version cannot read {RunDir(path).config}: {error}") from None
    return load_config(RunDir(path).config, list(overrides), of_a_run=True) if overrides else cfg


def branched(parent: Path, name: str, weights: Which, overrides: Sequence[str] = (), trust: bool = False) -> Config:
    """Return the config of a run that begins from the weights of ``parent``, in the folder beside it.

    It is the config of the parent with the overrides; ``model.weights`` is the parent's file.

    Args:
        trust: run code that came with the parent's folder, if its config names it.

    Raises:
        ConfigError: ``parent`` is not a run folder or has no such weights, an override is wrong, the new run would have
            the folder of its parent, or the config names code that came with that folder and is not trusted.
    """
    run_config(parent)  # it raises the error of a folder that is damaged or is no run
    run = RunDir(parent)
    file = run.best if weights == "best" else run.last
    must_be_readable(file)
    if not file.is_file():
        raise ConfigError(
            f"{parent} has no {file.name}: the best weights exist after the first evaluation of a run, the last weights "
            f"after its end; train it further{', or use --weights best' if weights == 'last' else ''}"
        )
    _refuse_objects_from_code(run)
    own = ["run.resume=auto", f"run.output_dir={json.dumps(str(parent.resolve().parent))}", *overrides]
    own += [f"run.name={json.dumps(name)}", f"model.weights={json.dumps(str(file.resolve()))}"]
    cfg = load_config(run.config, own, of_a_run=True)
    if not trust:
        refuse_code_of_the_run(parent, cfg)
    if RunDir.of(cfg.run).path.resolve() == parent.resolve():
        raise ConfigError(f"--name ({name}) is the run itself; choose another name")
    return cfg


def _refuse_objects_from_code(run: RunDir) -> None:
    if given := objects_from_code(run):
        raise ConfigError(
            f"{run.path} was trained with objects from Python code ({', '.join(given)}), which a command does not have: "
            f"use dist_train.train with them, and model.weights={run.best}"
        )
