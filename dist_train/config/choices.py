"""The alternatives of each choice, one table per config key. No other file lists them. Imports no torch.

To add one: write its function in any module and add one row here. The row makes the name valid and names the tasks that it
supports and the keys that it reads; error messages, warnings and ``--schema`` follow from it (docs/extending.md).
"""

import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from dist_train.config.choice_table import TASKS, Choice, ChoiceTable, Task

CLASSES: tuple[Task, ...] = ("classification",)
LABELS: tuple[Task, ...] = ("classification", "multilabel")
NUMBERS: tuple[Task, ...] = ("regression",)


@dataclass(frozen=True)
class Loss(Choice):
    """``build``: (outputs float32 [B, K], targets, **the keys that it reads) -> scalar, the mean over the batch.

    B: batch, K: classes or targets. ``class_weights`` is passed as a float32 tensor [K], or None; ``class_balance`` becomes
    part of it, and ``logit_adjustment`` is added to the outputs before. A row that reads ``loss.options`` gets each of them as a keyword argument.

    Attributes:
        whole_batch: the loss is not a mean over samples. Its function also takes ``group``, to sum over ranks, and a config
            with gradient accumulation is refused.
    """

    whole_batch: bool = False


_CLASS = "dist_train.learning.loss_functions.classification"
_MULTI = "dist_train.learning.loss_functions.multilabel"
_NUMBER = "dist_train.learning.loss_functions.regression"
_WEIGHTED = ("loss.label_smoothing", "loss.class_weights", "loss.class_balance")

LOSSES = ChoiceTable(
    "loss.name",
    {
        "cross_entropy": Loss(f"{_CLASS}:cross_entropy", CLASSES, reads=(*_WEIGHTED, "loss.logit_adjustment")),
        "focal": Loss(f"{_CLASS}:focal", CLASSES, reads=(*_WEIGHTED, "loss.gamma")),
        "bce": Loss(f"{_MULTI}:bce", LABELS, reads=(*_WEIGHTED, "loss.options")),
        "binary_focal": Loss(f"{_MULTI}:binary_focal", LABELS, reads=(*_WEIGHTED, "loss.gamma")),
        "asymmetric": Loss(
            f"{_MULTI}:asymmetric", ("multilabel",), reads=("loss.class_weights", "loss.class_balance", "loss.options")
        ),
        "soft_f1": Loss(f"{_MULTI}:soft_f1", LABELS, whole_batch=True),
        "mse": Loss(f"{_NUMBER}:mse", NUMBERS),
        "l1": Loss(f"{_NUMBER}:l1", NUMBERS),
        "huber": Loss(f"{_NUMBER}:huber", NUMBERS, reads=("loss.delta",)),
    },
    own=Loss(reads=("loss.options",)),
    own_form="package.module:Class",
)


@dataclass(frozen=True)
class Format(Choice):
    """``build``: (``DataConfig``) -> ``Listing``.

    Attributes:
        folder: ``data.root`` must be a folder that exists. The commands look before they import torch.
        archives: endings of the files that may be ``data.root`` too.
    """

    folder: bool = False
    archives: tuple[str, ...] = ()


_PACK = (
    "it has no place for a single image; run `dist-train pack FOLDER OUT` once, then set data.format=tar data.root=OUT"
)
_FORMATS = "dist_train.data.formats"
_SHARDS = "dist_train.data.shards.formats"

ZIP, ARROW = (".zip",), (".arrow",)
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""The compressed ones are found to be refused with the reason."""

FORMATS = ChoiceTable(
    "data.format",
    {
        "imagefolder": Format(f"{_FORMATS}.folders:image_folder", CLASSES, reads=("data.classes",), folder=True),
        "tiny_imagenet": Format(f"{_FORMATS}.tiny_imagenet:tiny_imagenet", CLASSES, folder=True),
        "tar": Format(f"{_SHARDS}:tar_shards", CLASSES, reads=("data.classes",), folder=True, archives=TAR),
        "zip": Format(f"{_SHARDS}:zip_shards", CLASSES, reads=("data.classes",), folder=True, archives=ZIP),
        "hf": Format(f"{_SHARDS}:arrow_tables", CLASSES, reads=("data.classes",), folder=True, archives=ARROW),
        "csv": Format(f"{_FORMATS}.csv_tables:csv_tables", reads=("data.csv", "data.classes"), folder=True),
        "torchvision": Format(f"{_FORMATS}.dataset_objects:data_set_objects", CLASSES, reads=("data.name",)),
    },
    own=Format(f"{_FORMATS}.dataset_objects:data_set_objects"),
    own_form="package.module:callable",
    elsewhere={
        "parquet": _PACK,
        "arrow": "it is called hf here: set data.format=hf",
        "webdataset": "it is called tar here: set data.format=tar",
    },
)


@dataclass(frozen=True)
class Metric(Choice):
    """``build``: (``evaluation.metric_functions.scored.Scored``, **``given``) -> float; shares in percent.

    Attributes:
        falls: lower is better.
        usual_for: tasks whose evaluations always report it; others report it if ``eval.metrics`` or ``eval.metric`` names it.
        needs_outputs: it needs the probabilities of all classes, not only those of the most likely ones.
        given: keyword arguments.
        undefined: the condition, in words, in which the metric is NaN although all outputs are finite.
    """

    falls: bool = False
    usual_for: tuple[Task, ...] = ()
    needs_outputs: bool = False
    given: dict[str, int] = field(default_factory=dict)
    undefined: str = "it is not defined for this validation set"


_METRICS = "dist_train.evaluation.metric_functions"
_TOP = re.compile(r"top([1-9]\d{0,5})")


@dataclass(frozen=True)
class MetricTable(ChoiceTable[Metric]):
    """The metrics; ``top<k>`` is valid for every k."""

    def find(self, name: str) -> Metric:
        top = _TOP.fullmatch(name)
        if top is None or name in self.rows:
            return super().find(name)
        return Metric(f"{_METRICS}.counts:top_k", CLASSES, given={"k": int(top[1])})

    def checked(self, name: str) -> str:
        return name if _TOP.fullmatch(name) else super().checked(name)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        named = super().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [*named["anyOf"], {"type": "string", "pattern": f"^{_TOP.pattern}$"}]}


METRICS = MetricTable(
    "eval.metric",
    {
        "loss": Metric(f"{_METRICS}.scored:loss", falls=True, usual_for=TASKS),
        "top1": Metric(f"{_METRICS}.counts:top_k", CLASSES, usual_for=CLASSES, given={"k": 1}),
        "top5": Metric(f"{_METRICS}.counts:top_k", CLASSES, usual_for=CLASSES, given={"k": 5}),
        "map": Metric(
            f"{_METRICS}.ranking:mean_average_precision",
            LABELS,
            usual_for=("multilabel",),
            needs_outputs=True,
            undefined="no validation image has a label",
        ),
        "macro_f1": Metric(
            f"{_METRICS}.counts:macro_f1",
            LABELS,
            usual_for=LABELS,
            undefined="no validation image has a label, and the model predicts none",
        ),
        "auroc": Metric(
            f"{_METRICS}.ranking:auroc",
            LABELS,
            needs_outputs=True,
            undefined="no class has validation images with it and others without it",
        ),
        "precision": Metric(f"{_METRICS}.counts:macro_precision", LABELS),
        "recall": Metric(f"{_METRICS}.counts:macro_recall", LABELS),
        "balanced_accuracy": Metric(f"{_METRICS}.counts:balanced_accuracy", CLASSES),
        "kappa": Metric(f"{_METRICS}.counts:kappa", CLASSES),
        "quadratic_kappa": Metric(f"{_METRICS}.counts:quadratic_kappa", CLASSES),
        "ece": Metric(f"{_METRICS}.ranking:calibration_error", CLASSES, falls=True),
        "mae": Metric(f"{_METRICS}.numbers:mae", NUMBERS, falls=True, usual_for=NUMBERS),
        "rmse": Metric(f"{_METRICS}.numbers:rmse", NUMBERS, falls=True, usual_for=NUMBERS),
        "r2": Metric(
            f"{_METRICS}.numbers:r2",
            NUMBERS,
            usual_for=NUMBERS,
            undefined="there are fewer than two validation images",
        ),
    },
    own=Metric(needs_outputs=True),
    own_form="package.module:function",
)
"""An evaluation reports the usual metrics of its task in this order, then ``eval.metrics``; ``eval.metric`` chooses the
best weights. Of a metric of your own, higher is better."""


def falls(metric: str) -> bool:
    """Return whether a lower ``metric`` is better; False for an unknown name."""
    return metric in METRICS.rows and METRICS.rows[metric].falls


_SCHEDULES = "dist_train.learning.schedule"
_FLOOR = "schedule.min_lr"
_CYCLES = ("schedule.cooldown_epochs", "schedule.restarts")

SCHEDULES = ChoiceTable(
    "schedule.name",
    {
        "cosine": Choice(f"{_SCHEDULES}:cosine", reads=(*_CYCLES, _FLOOR)),
        "constant": Choice(f"{_SCHEDULES}:constant"),
        "linear": Choice(f"{_SCHEDULES}:linear", reads=(*_CYCLES, _FLOOR)),
        "poly": Choice(f"{_SCHEDULES}:poly", reads=(*_CYCLES, _FLOOR, "schedule.power")),
        "wsd": Choice(f"{_SCHEDULES}:wsd", reads=("schedule.cooldown_epochs", _FLOOR, "schedule.decay")),
        "step": Choice(f"{_SCHEDULES}:step", reads=(_FLOOR, "schedule.gamma", "schedule.step_epochs")),
        "multistep": Choice(f"{_SCHEDULES}:multistep", reads=(_FLOOR, "schedule.gamma", "schedule.milestones")),
        "onecycle": Choice(f"{_SCHEDULES}:onecycle", reads=(_FLOOR, "schedule.pct_start")),
        "exponential": Choice(f"{_SCHEDULES}:exponential", reads=(_FLOOR, "schedule.gamma")),
    },
    own=Choice(reads=("schedule.options",)),
    own_form="package.module:function",
)
"""``build``: (``learning.schedule.Moment``, **the keys that it reads) -> learning rate after the warm-up.

The result and the argument ``min_lr`` are factors of ``optim.lr``. ``cooldown_epochs`` and ``restarts`` are not passed: the
``Moment`` follows from them. A function of the user's gets each of ``schedule.options``."""


HEADS = ChoiceTable(
    "model.head.name",
    {
        "linear": Choice("dist_train.model.heads:linear"),
        "mlp": Choice("dist_train.model.heads:mlp", reads=("model.head.hidden", "model.head.activation")),
    },
)
"""``build``: (the model's last layer, dropout, **the keys that it reads) -> the module that replaces that layer."""


_OPTIMIZERS = "dist_train.learning.optimizers.build"

OPTIMIZERS = ChoiceTable(
    "optim.name",
    {
        "sgd": Choice(f"{_OPTIMIZERS}:sgd", reads=("optim.momentum", "optim.nesterov")),
        "adam": Choice(f"{_OPTIMIZERS}:adam", reads=("optim.betas", "optim.eps")),
        "adamw": Choice(f"{_OPTIMIZERS}:adamw", reads=("optim.betas", "optim.eps")),
        "rmsprop": Choice(f"{_OPTIMIZERS}:rmsprop", reads=("optim.momentum", "optim.alpha", "optim.eps")),
    },
    own=Choice("dist_train.learning.optimizers.of_timm:of_timm", reads=("optim.momentum", "optim.betas", "optim.eps")),
    own_form="another timm optimizer",
)
"""``build``: (parameter groups, lr, weight_decay, **the keys that it reads) -> optimizer."""


_DISTILLATION = "dist_train.learning.distillation.objective"

DISTILLATIONS = ChoiceTable(
    "loss.distill.kind",
    {
        "logits": Choice(f"{_DISTILLATION}:logits"),
        "hard": Choice(f"{_DISTILLATION}:hard"),
        "token": Choice(f"{_DISTILLATION}:token"),
    },
)
"""``build``: (``learning.distillation.objective.Parts``) -> objective. Not in ``TABLES``: its section may be missing."""


@dataclass(frozen=True)
class Strategy(Choice):
    """``build``: (``Dist``) -> ``distributed.strategies.base.Strategy``.

    Attributes:
        ranks: it works in the processes that torchrun starts, even in a single one; the others work in one plain process.
        gpus: the smallest number of GPUs that one process must see.
        shards: a rank holds only a part of every weight; in one process it has no effect.
    """

    ranks: bool = False
    gpus: int = 0
    shards: bool = False


_STRATEGIES = "dist_train.distributed.strategies"

STRATEGIES = ChoiceTable(
    "distributed.strategy",
    {
        "auto": Strategy(),
        "ddp": Strategy(f"{_STRATEGIES}.ddp:Ddp", ranks=True),
        "dp": Strategy(f"{_STRATEGIES}.data_parallel:DataParallel", gpus=2),
        "fsdp": Strategy(f"{_STRATEGIES}.fsdp:Fsdp", ranks=True, shards=True),
        "none": Strategy(f"{_STRATEGIES}.single:Single"),
        "zero2": Strategy(f"{_STRATEGIES}.zero2:Zero2", ranks=True, shards=True),
    },
    elsewhere=dict.fromkeys(
        ("deepspeed", "fsdp2", "zero1", "zero3"), "stages 1 and 2 of ZeRO are zero2 here, and stage 3 is fsdp"
    ),
)
"""``auto`` means one of the others: ``distributed.group.choose_strategy`` looks how the process was started."""


TABLES: tuple[
    ChoiceTable[Loss] | ChoiceTable[Format] | ChoiceTable[Choice] | ChoiceTable[Metric] | ChoiceTable[Strategy], ...
] = (FORMATS, HEADS, LOSSES, METRICS, OPTIMIZERS, SCHEDULES, STRATEGIES)
