"""Which keys of a config change the weights that a run arrives at."""

from typing import Any

from pydantic import BaseModel

from dist_train.config.schema import Config

NOT_ARITHMETIC = (
    "run.name", "run.output_dir", "run.resume", "model.compile", "data.root", "data.workers", "data.prefetch",
    "data.pin_memory", "data.persistent_workers", "data.cache", "data.bad_images", "data.max_bad_share", "train.epochs", "train.max_steps", "train.micro_batch", "train.early_stopping", "train.time_limit", "eval.every_epochs",
    "eval.every_steps", "eval.batch_size", "checkpoint", "log", "distributed",
)  # fmt: skip


def arithmetic(cfg: Config) -> dict[str, Any]:
    """What of a config decides the weights that a run arrives at, by dotted key: it must not change on a resume.

    Left out are conveniences, the length of the run, and what the data's fingerprint stands for. Keys are the same for
    every config: what may be absent, or has names of the user's own, is one value.
    """
    flat: dict[str, Any] = {}

    def add(prefix: str, section: type[BaseModel], values: dict[str, Any]) -> None:
        for name, field in section.model_fields.items():
            key, kind = f"{prefix}{name}", field.annotation
            if key in NOT_ARITHMETIC:
                continue
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                add(f"{key}.", kind, values[name])
            else:
                flat[key] = values[name]

    add("", Config, cfg.model_dump(mode="json"))
    return flat
