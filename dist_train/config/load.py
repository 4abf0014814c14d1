"""Read a YAML file, apply ``key.path=value`` overrides, validate: every ``Config`` is made here.

Every error names the key, the value, the rule and the fix. Nothing here imports torch."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dist_train.config.messages import explain
from dist_train.config.rules.migrations import migrated
from dist_train.config.rules.refusals import refused_always
from dist_train.config.schema import Config
from dist_train.config.yaml_text import MOST_TEXT, apply_override, parse_yaml, to_yaml, tuples
from dist_train.errors import ConfigError
from dist_train.system.files import read_bounded


def load_config(path: str | Path, overrides: list[str] | None = None, of_a_run: bool = False) -> Config:
    """Return the config of a YAML file with ``key.path=value`` overrides.

    Args:
        of_a_run: the file is the ``config.yaml`` of a run folder: a missing key means what the older code did.

    Raises:
        ConfigError: the file or an override cannot be read, or keys are wrong; the message lists all of them.
    """
    try:
        # The config of a run may be somebody else's; a user's own may be a pipe, as in --config <(...).
        text = read_bounded(Path(path), MOST_TEXT).decode() if of_a_run else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the config file {path}: {error}; save it as UTF-8 text") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        found = "is empty: it" if tree is None else f"contains the {type(tree).__name__} {tree!r:.40}; it"
        raise ConfigError(
            f"{path} {found} must hold sections such as `model:` and `data:`; `dist-train --example` lists examples"
        )
    tree = migrated(tree, of_a_run)  # before the overrides, which use the current names of keys
    for override in overrides or []:
        apply_override(tree, override)
    return parse_config(tree, of_a_run)


def parse_config(tree: dict[str, Any], of_a_run: bool = False) -> Config:
    """Return the config of nested plain values.

    Args:
        of_a_run: see ``load_config``.

    Raises:
        ConfigError: with one line per wrong key.
    """
    try:
        cfg = Config.model_validate(tuples(migrated(tree, of_a_run)))
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
