"""The whole config of one run: frozen, typed, strict. Nothing changes it after parsing."""

from typing import Any

from pydantic import model_validator

from dist_train.config.files.layers import BASE
from dist_train.config.sections.augment import AugmentConfig
from dist_train.config.sections.checkpoint import CheckpointConfig
from dist_train.config.sections.data import DataConfig
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.config.sections.eval import EvalConfig
from dist_train.config.sections.log import LogConfig
from dist_train.config.sections.loss import LossConfig
from dist_train.config.sections.model import ModelConfig
from dist_train.config.sections.optim import OptimConfig, with_rate
from dist_train.config.sections.run import RunConfig
from dist_train.config.sections.schedule import ScheduleConfig
from dist_train.config.sections.train import HookConfig, TrainConfig
from dist_train.config.types import Section

BASE_MEANS = "`recipes/NAME` (`--recipes` lists them) or a YAML file, relative to this one: its values count where this file has none."


class Config(Section):
    """One training run."""

    run: RunConfig
    """Name, folder, seed, resume."""
    model: ModelConfig
    """Backbone, head, weights to start from, what is frozen."""
    data: DataConfig
    """Where images and targets come from, and how they are loaded."""
    augment: AugmentConfig = AugmentConfig.usual()
    """Crop, flip, RandAugment, erasing, Mixup and CutMix."""
    loss: LossConfig = LossConfig.usual()
    """The loss and its options."""
    optim: OptimConfig
    """Optimizer, learning rate, weight decay."""
    schedule: ScheduleConfig = ScheduleConfig.usual()
    """The learning rate over the run."""
    train: TrainConfig
    """Length, batch, precision, EMA, early stopping."""
    eval: EvalConfig = EvalConfig.usual()
    """When a run is evaluated, and by which metric."""
    checkpoint: CheckpointConfig = CheckpointConfig.usual()
    """How often to save, and how many checkpoints to keep."""
    log: LogConfig = LogConfig.usual()
    """Rows of metrics, TensorBoard, W&B."""
    distributed: DistributedConfig = DistributedConfig.usual()
    """How several GPUs or processes work together."""
    hooks: tuple[HookConfig, ...] = ()
    """Your own code after steps and evaluations, which may end the run: `package.module:Class`, or `{name, options}`."""

    @model_validator(mode="before")
    @classmethod
    def _rate_of_the_batch(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or not isinstance(tree.get("train"), dict) or "optim" not in tree:
            return tree
        return {**tree, "optim": with_rate(tree["optim"], tree["train"].get("global_batch"))}


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a config file, from which editors complete keys and mark errors (docs/config.md).

    A file with a base may leave out keys that every config needs: the base may have them.
    """
    whole = Config.model_json_schema()
    needed = whole.pop("required")
    properties = {name: _rules(whole["$defs"][_class_name(name)]) for name in needed}
    rule = {"if": {"required": [BASE]}, "then": {}, "else": {"required": needed, "properties": properties}}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    base = {"title": BASE, "type": "string", "description": BASE_MEANS}
    whole["properties"] = {BASE: base} | whole["properties"]
    return head | whole | rule | {"title": "dist_train: the config of one training run"}


def _rules(section: dict[str, Any]) -> dict[str, Any]:
    """Remove from the schema of a section which keys it needs, and return that."""
    return {rule: section.pop(rule) for rule in ("required", "anyOf") if rule in section}


def _class_name(section: str) -> str:
    return str(Config.model_fields[section].annotation.__name__)  # type: ignore[union-attr]
