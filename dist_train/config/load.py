"""Read a YAML file, apply ``key.path=value`` overrides, validate: the only way to a ``Config``.

Every error names the key, the value, the rule and the fix. Nothing here imports torch."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dist_train.config.choices import disagreements
from dist_train.config.messages import explain
from dist_train.config.schema import Config
from dist_train.config.sections.augment import AugmentConfig
from dist_train.config.yaml_text import apply_override, parse_yaml, to_yaml, tuples
from dist_train.errors import ConfigError


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides, validate.

    Raises:
        ConfigError: the file or an override cannot be read, or some keys are wrong: all are reported.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the config file {path}: {error}; save it as UTF-8 text") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        found = "is empty: it" if tree is None else f"holds {type(tree).__name__} {tree!r:.40}, and"
        raise ConfigError(
            f"{path} {found} must hold sections such as `model:` and `data:`; `dist-train --example` lists some"
        )
    for override in overrides or []:
        apply_override(tree, override)
    return parse_config(tree)


def parse_config(tree: dict[str, Any]) -> Config:
    """Validate a tree of plain values.

    Raises:
        ConfigError: one line per wrong key.
    """
    try:
        cfg = Config.model_validate(tuples(tree))
    except RecursionError:
        raise ConfigError("the config holds itself: an anchor (&) around its own alias (*)") from None
    except ValidationError as error:
        lines = [explain(item, Config) for item in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None
    faults = disagreements(cfg.data.format, cfg.data.task, cfg.eval.metric, cfg.loss.name, _mixing(cfg.augment))
    faults += _beyond(cfg)
    if faults:
        raise ConfigError("\n".join(faults))
    return cfg


def _mixing(cfg: AugmentConfig) -> str | None:
    """The key that has images mixed, if any."""
    return next((name for name in ("mixup", "cutmix") if getattr(cfg, name)), None)


def _beyond(cfg: Config) -> list[str]:
    """Values that are possible each for itself, and not together."""
    faults, schedule = [], cfg.schedule
    if schedule.min_lr > cfg.optim.lr:
        faults.append(
            f"`schedule.min_lr` ({schedule.min_lr:g}) is more than `optim.lr` ({cfg.optim.lr:g}), so that the rate would "
            "rise; use a smaller one"
        )
    if schedule.warmup_epochs > cfg.train.epochs:
        faults.append(
            f"`schedule.warmup_epochs` ({schedule.warmup_epochs:g}) is more than `train.epochs` ({cfg.train.epochs}): the "
            "warm-up would never end; use fewer"
        )
    if cfg.loss.label_smoothing and cfg.data.task == "multilabel":
        faults.append(
            f"`loss.label_smoothing` ({cfg.loss.label_smoothing:g}) is for one class an image, and `data.task` is "
            "multilabel; set it to 0"
        )
    return faults


def dump_config(cfg: Config) -> str:
    """The resolved configuration as YAML that ``load_config`` reads back to an equal one."""
    return to_yaml(cfg.model_dump(mode="json"))
