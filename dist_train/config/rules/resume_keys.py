"""Which keys change the final weights of a run: a resume refuses a change of those, and allows one of the others.

Every key is in exactly one of the two tables, under its full name.
"""

from typing import Any

from dist_train.config.choices import STRATEGIES
from dist_train.config.rules.migrations import BEFORE, found, migrated
from dist_train.config.schema import Config
from dist_train.config.values import every_key, set_value, value_of

CHANGE_THE_WEIGHTS = (
    "run.seed",
    "run.deterministic",
    "model.source",
    "model.name",
    "model.pretrained",
    "model.weights",
    "model.drop_path",
    "model.head.name",
    "model.head.hidden",
    "model.head.activation",
    "model.head.dropout",
    "model.head.init",
    "model.freeze",
    "model.unfreeze",
    "model.lora",
    "model.sync_bn",
    "model.channels_last",  # selects other kernels
    "model.grad_checkpointing",
    "data.format",
    "data.task",
    "data.name",
    "data.csv.train",
    "data.csv.val",
    "data.csv.path",
    "data.csv.targets",
    "data.csv.separator",
    "data.csv.label_separator",
    "data.val_fraction",
    "data.val_seed",
    "data.fold",
    "data.csv.group",
    "data.csv.weight",
    "data.train_fraction",
    "data.shots",
    "data.exclude",
    "data.sampling",
    "data.max_val_images",  # decides which weights are best
    "data.image_size",
    "data.fast_decode",
    "data.channels",
    "data.bits",
    "data.mean",
    "data.std",
    "augment.device",
    "augment.crop",
    "augment.size_schedule",
    "augment.crop_scale",
    "augment.crop_ratio",
    "augment.interpolation",
    "augment.hflip",
    "augment.ops",
    "augment.repeats",
    "augment.erasing",
    "augment.erasing_count",
    "augment.erasing_scale",
    "augment.erasing_ratio",
    "augment.erasing_fill",
    "augment.mixup",
    "augment.cutmix",
    "augment.mix_prob",
    "augment.mix_switch_prob",
    "augment.mix_mode",
    "augment.mix_off_epoch",
    "augment.cutmix_minmax",
    "loss.name",
    "loss.options",
    "loss.objective",
    "loss.objective_options",
    "loss.distill",
    "loss.label_smoothing",
    "loss.class_weights",
    "loss.gamma",
    "loss.delta",
    "loss.aux_weight",
    "loss.l1",
    "optim.name",
    "optim.lr",
    "optim.momentum",
    "optim.nesterov",
    "optim.betas",
    "optim.eps",
    "optim.alpha",
    "optim.weight_decay",
    "optim.decay_norm_and_bias",
    "optim.layer_decay",
    "optim.head_lr_scale",
    "optim.lr_base",
    "optim.lr_scale",
    "optim.layer_decay_min",
    "schedule.name",
    "schedule.warmup_epochs",
    "schedule.min_lr",
    "schedule.gamma",
    "schedule.step_epochs",
    "schedule.milestones",
    "schedule.pct_start",
    "schedule.options",
    "schedule.warmup_lr",
    "schedule.cooldown_epochs",
    "schedule.restarts",
    "schedule.power",
    "schedule.decay.share",
    "schedule.decay.shape",
    "train.global_batch",
    "train.precision",
    "train.tf32",
    "train.clip",
    "train.ema",
    "train.nonfinite",
    "train.cached_features",  # features are computed in batches of another size
    "loss.class_balance",
    "distributed.gradient_dtype",
    "distributed.strategy",  # only whether weights are divided among ranks
    "loss.logit_adjustment",
    "model.options",
    "optim.options",
    "eval.crop",  # decides which weights are best
    "eval.crop_pct",  # the same
    "eval.interpolation",  # the same
    "eval.size",  # the same
    "eval.metric",  # the same
    "eval.weights",  # the same
)

FIRST_WEIGHTS_ONLY = frozenset({"model.head.init"})
"""Of these the ones that matter before the first checkpoint only. Their defaults have changed: a run of a version without such a
key may go on with any value of it."""

OTHER_ROUNDING = ("distributed.strategy",)
"""Those of the keys above that a resume may change: each step has the same samples and rate; sums are rounded differently."""

KEPT = ("eval.crop", "eval.crop_pct", "eval.interpolation", "eval.size")
"""Keys whose defaults differ from what older versions did. A resume whose config does not set one keeps the run's value."""

DO_NOT_CHANGE_THE_WEIGHTS = (
    "run.name",
    "run.output_dir",
    "run.resume",
    "model.compile",  # other kernels, but so has another machine; switching it off may save a run
    "data.root",  # a resume compares the fingerprint of the data instead
    "data.csv.suffix",  # the same
    "data.classes",  # the same
    "data.test",
    "data.max_overlap",
    "data.workers",
    "data.prefetch",
    "data.timeout_s",
    "data.pin_memory",
    "data.persistent_workers",
    "data.cache",
    "data.stage",
    "data.value_range",  # a resume compares the range that follows from it instead (data/decode_rules.py)
    "data.max_pixels",  # like data.bad_images
    "data.bad_images",  # "error" changes no weights, and the replacement of a bad image follows from the seed
    "data.max_bad_share",
    "train.epochs",  # a resume compares the learning rates that follow from the length (learning/schedule_length.py)
    "train.max_steps",  # the same
    "schedule.on_extend",  # says how to go on where these rates differ
    "train.micro_batch_may_change",
    "train.micro_batch",  # like another number of ranks: the same samples in each step, other rounding
    "train.early_stopping",
    "train.time_limit",
    "train.pause_epoch",
    "train.fast_dev_run",
    "eval.every_epochs",
    "eval.every_steps",
    "eval.batch_size",
    "eval.metrics",
    "eval.tta",  # evaluations during training do not use it
    "checkpoint.every_steps",
    "checkpoint.keep",
    "checkpoint.keep_best",
    "checkpoint.memory",
    "log.every_steps",
    "log.tensorboard",
    "log.profile",
    "log.images",
    "log.report",
    "log.wandb.mode",
    "log.wandb.project",
    "log.wandb.entity",
    "log.wandb.name",
    "log.wandb.group",
    "log.wandb.job_type",
    "log.wandb.tags",
    "log.wandb.notes",
    "log.mlflow.mode",
    "log.mlflow.uri",
    "log.mlflow.experiment",
    "log.mlflow.name",
    "log.mlflow.tags",
    "log.loggers",
    "hooks",  # they see a run; what they remember is in its checkpoints
    "distributed.timeout_s",
    "distributed.preflight",
    "distributed.numa_binding",
    "distributed.unused_parameters",  # as train.micro_batch; may be allowed to get a run through
)


def arithmetic(cfg: Config) -> dict[str, Any]:
    """Return the keys that change the weights, with their values: the part of the config that a checkpoint records."""
    values = cfg.model_dump(mode="json")
    if not STRATEGIES.find(cfg.distributed.strategy.name).shards:  # the others compute the same
        values["distributed"]["strategy"] = BEFORE["distributed.strategy"]
    return {key: value_of(values, key) for key in CHANGE_THE_WEIGHTS}


def kept_values(cfg: Config, then: dict[str, Any]) -> dict[str, Any]:
    """Return, by key, what a resume takes from its run: the keys of ``KEPT`` that its config does not set.

    Args:
        then: the ``arithmetic`` of the run's checkpoint.
    """
    before = migrated_values(then)
    return {key: before[key] for key in KEPT if key in before and not _is_given(cfg, key)}


def _is_given(cfg: Config, key: str) -> bool:
    section, _, name = key.partition(".")
    return name in getattr(cfg, section).model_fields_set


def changed_keys(then: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Return, by key, one sentence per value that differs between the ``arithmetic`` of a checkpoint and of this start.

    Args:
        then: of the checkpoint, with the keys of the version that wrote it (``migrated_values`` translates them).
        now: of this start.
    """
    uncompared = FIRST_WEIGHTS_ONLY - then.keys()
    then = migrated_values(then)
    keys = [key for key in dict.fromkeys([*then, *now]) if key not in uncompared]
    return {
        key: f"`{key}` was {then.get(key)!r} and is now {now.get(key)!r}"
        for key in keys
        if then.get(key) != now.get(key)
    }


def migrated_values(values: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint keeps of its config, by dotted key, with today's keys."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        set_value(tree, key, value)
    tree = migrated(tree, of_a_run=True)
    return {key: value for key in dict.fromkeys([*values, *every_key(Config)]) for value in found(tree, key)}
