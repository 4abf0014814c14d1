"""Read a YAML file and its bases, apply ``key.path=value`` overrides, validate: every ``Config`` is made here.

Every error names the key, the value, the rule and the fix. Nothing here imports torch."""

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dist_train.config.files.layers import BASE, merged, read_layers
from dist_train.config.files.places import with_places
from dist_train.config.messages import explain
from dist_train.config.rules.migrations import migrated
from dist_train.config.rules.refusals import refused_always
from dist_train.config.schema import Config
from dist_train.config.types import OF_A_RUN
from dist_train.config.yaml_text import apply_override, to_yaml, tuples
from dist_train.errors import ConfigError


def load_config(path: str | Path, overrides: list[str] | None = None, of_a_run: bool = False) -> Config:
    """Return the config of a YAML file, on top of the file that its `base` names, with ``key.path=value`` overrides.

    Args:
        of_a_run: the file is the ``config.yaml`` of a run folder: a missing key means what the older code did.

    Raises:
        ConfigError: a file or an override cannot be read, or keys are wrong; the message lists all of them, with the file and
            the line of each.
    """
    if not os.fspath(path):
        raise ConfigError("the path of the config file is empty (an empty shell variable?); name a YAML file")
    layers = read_layers(Path(path), of_a_run)
    tree = merged(layers, Config)
    for override in overrides or []:
        apply_override(tree, override)
    if BASE in tree and not of_a_run:
        raise ConfigError(f"`{BASE}` ({tree[BASE]}) can be given in a YAML file only; write it into {path}")
    try:
        return parse_config(tree, of_a_run)
    except ConfigError as error:
        raise ConfigError(str(error) if of_a_run else with_places(str(error), layers, overrides or [])) from None


def parse_config(tree: dict[str, Any], of_a_run: bool = False) -> Config:
    """Return the config of nested plain values.

    Args:
        of_a_run: see ``load_config``.

    Raises:
        ConfigError: with one line per wrong key.
    """
    try:
        cfg = Config.model_validate(tuples(migrated(tree, of_a_run)), context={OF_A_RUN: of_a_run})
    except RecursionError:
        raise ConfigError(
            "the config contains itself: an anchor (&) around its own alias (*); remove the alias"
        ) from None
    except ValidationError as error:
        lines = [explain(item, Config) for item in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None
    faults = refused_always(cfg)
    if faults:
        raise ConfigError("\n".join(faults))
    return cfg


def dump_config(cfg: Config) -> str:
    """Return the config as YAML text, from which ``load_config`` reads an equal config."""
    return to_yaml(cfg.model_dump(mode="json"))
