"""TensorBoard's event files, read by TensorBoard's own reader."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from dist_train.config import parse_config
from dist_train.loggers.base import Facts
from dist_train.loggers.jsonl import JsonlLogger
from dist_train.loggers.tensorboard import TensorBoardLogger
from dist_train.run.folder import RunDir

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CONFIG = parse_config(
    {
        "run": {"name": "tiny"},
        "model": {"name": "resnet18", "pretrained": False},
        "data": {"root": "data"},
        "optim": {"lr": 0.25, "betas": [0.8, 0.9]},
        "train": {"global_batch": 8, "early_stopping": {"patience": 3}},
    }
)


def attempt(run: RunDir, step: int, evaluated: int, rows: list[tuple[int, str]]) -> None:
    """Log rows whose loss is their step, as an attempt that continues at ``step``."""
    loggers = JsonlLogger(), TensorBoardLogger()
    for logger in loggers:
        logger.start(CONFIG, Facts(run, total_steps=10, step=step, evaluated=evaluated))
    for at, split in rows:
        for logger in loggers:
            logger.row({"step": at, "epoch": at / 10, "split": split, "loss": float(at)})
        loggers[1].image("val/confusion", at, np.zeros((4, 4, 3), np.uint8))
    for logger in loggers:
        logger.close("done")


def read(run: RunDir) -> EventAccumulator:
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    return events


@pytest.mark.parametrize("evaluated", [-1, 4])
def test_every_step_is_there_once_after_a_resume(tmp_path: Path, evaluated: int) -> None:
    """Saved at step 4 before its evaluation, or after it."""
    run = RunDir(tmp_path)
    attempt(run, 0, -1, [(2, "train"), (4, "train"), (4, "val"), (6, "train")])
    again = [(6, "train"), (8, "train")]
    attempt(run, 4, evaluated, again if evaluated == 4 else [(4, "val"), *again])
    for split, steps in (("train", [2, 4, 6, 8]), ("val", [4])):
        assert [(event.step, event.value) for event in read(run).Scalars(f"{split}/loss")] == [(s, s) for s in steps]


def test_pictures_are_there(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    attempt(run, 0, -1, [(2, "val")])
    [image] = read(run).Images("val/confusion")
    assert (image.step, image.width, image.height) == (2, 4, 4)


def test_the_place_of_the_report_is_there(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    logger = TensorBoardLogger()
    logger.start(CONFIG, Facts(run, total_steps=10))
    logger.file(run.best)
    logger.file(run.report)
    logger.close("done")
    [text] = read(run).Tensors("report/text_summary")
    assert text.tensor_proto.string_val == [f"`{run.report}`: open it in a browser".encode()]


def test_the_settings_are_there_once_and_lead_to_the_scores(tmp_path: Path) -> None:
    """In the run's own folder; a resume writes them again, with the values of its config."""
    run = RunDir(tmp_path)
    attempt(run, 0, -1, [(2, "train"), (4, "val")])
    attempt(run, 4, 4, [(6, "train")])
    metadata = read(run).SummaryMetadata

    def content(tag: str) -> HParamsPluginData:
        return HParamsPluginData.FromString(metadata(f"_hparams_/{tag}").plugin_data.content)

    values = {
        key: MessageToDict(value) for key, value in content("session_start_info").session_start_info.hparams.items()
    }
    assert values == {
        "model.name": "resnet18",
        "model.pretrained": False,
        "data.root": "data",
        "optim.lr": 0.25,
        "optim.betas": "[0.8, 0.9]",
        "train.global_batch": 8.0,
        "train.early_stopping.patience": 3.0,
    }
    tags = [info.name.tag for info in content("experiment").experiment.metric_infos]
    assert tags == ["val/top1", "val/loss"]
    assert not [path for path in run.tensorboard.iterdir() if path.is_dir()]
