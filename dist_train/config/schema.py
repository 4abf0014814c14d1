"""The whole configuration of one run: frozen, typed, strict. Read, never written."""

from dist_train.config.sections.augment import AugmentConfig
from dist_train.config.sections.checkpoint import CheckpointConfig
from dist_train.config.sections.data import DataConfig
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.config.sections.eval import EvalConfig
from dist_train.config.sections.log import LogConfig
from dist_train.config.sections.loss import LossConfig
from dist_train.config.sections.model import ModelConfig
from dist_train.config.sections.optim import OptimConfig
from dist_train.config.sections.run import RunConfig
from dist_train.config.sections.schedule import ScheduleConfig
from dist_train.config.sections.train import TrainConfig
from dist_train.config.types import Section


class Config(Section):
    """One training run."""

    run: RunConfig
    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    distributed: DistributedConfig = DistributedConfig()
