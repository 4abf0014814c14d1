"""``export --format timm``: a folder that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` and transformers load.

Both read ``config.json`` (timm's ``save_for_hf`` writes the same keys; transformers' TimmWrapper takes its image processor from
it too) and ``model.safetensors``.
"""

import math
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from dist_train.checkpoint.format import save_weights
from dist_train.config.schema import Config
from dist_train.config.types import Size
from dist_train.config.user_code import is_own
from dist_train.data.augment.frame import OUR_MODES, Frame, evaluation_frame
from dist_train.data.changed_files import listed_counts
from dist_train.errors import EXIT_DONE, ConfigError
from dist_train.inference.handover.comparison import calibrated, compare, noise
from dist_train.inference.handover.model_card import model_card
from dist_train.inference.handover.push import check_repository, push
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.model.network import statistics
from dist_train.model.sources.hub import DESCRIPTION, hub_model
from dist_train.run.saved_config import Which, run_config
from dist_train.system.files import atomic_write, read_json, write_json
from dist_train.system.terminal import writing_output

PROBLEMS = {"classification": "single_label_classification", "multilabel": "multi_label_classification"}
"""transformers' names of our tasks: they decide between softmax and sigmoid in its pipeline."""

TIMMS_MODES = {ours: timms for timms, ours in OUR_MODES.items()}
ADVICE = "export without --format timm writes model.onnx and model.json, which have what is needed"


def export_timm(path: Path, which: Which, folder: Path, trust: bool = False, push_to: str | None = None) -> int:
    """Write ``config.json``, ``model.safetensors`` and the model card ``README.md``, load the folder, compare the outputs.

    A temperature of ``calibrate`` becomes part of the head's weights, so that probabilities are those of ``predict``.

    Args:
        push_to: the repository of the Hugging Face hub to which the folder is uploaded, once it has been checked.

    Returns:
        The exit code.

    Raises:
        ConfigError: the run has no weights, or timm cannot build its model or prepare its images.
        DistTrainError: the outputs of the folder's model differ from those of the run's.
    """
    if push_to is not None:
        check_repository(push_to)
    refuse_what_timm_cannot(run_config(path))
    run = open_run(path, which, "cpu", trust=trust)
    if run.rules.value_range is not None:
        raise ConfigError(
            f"--format timm: {path} was trained on images of more than 8 bits, whose values {list(run.rules.value_range)} "
            f"become black to white (decode_rules.json); timm and transformers have no such step; {ADVICE}"
        )
    images = noise(run, 2)
    with torch.no_grad():
        expected = calibrated(run)(images)
    with writing_output("--out", folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(folder / "model.safetensors", _weights(run), {"format": "pt"})
        write_json(folder / DESCRIPTION, description(run))
        with atomic_write(folder / "README.md") as file:
            file.write(model_card(run, which, listed_counts(run.folder.listing)).encode())
    compare(folder / "model.safetensors", expected, _outputs(folder, images))
    print(f'load it: timm.create_model("local-dir:{folder}", pretrained=True)')
    if push_to is not None:
        push(folder, push_to)
    return EXIT_DONE


def refuse_what_timm_cannot(cfg: Config) -> None:
    """Raise ConfigError if timm and transformers could not build the model, or would prepare images in another way."""
    model, data = cfg.model, cfg.data
    reasons = {
        f"`model.name` ({model.name}): it is your own code, and timm builds its own models only": is_own(model.name),
        f"`model.source` ({model.source}): timm builds its own models only": model.source != "timm",
        f"`model.head.name` ({model.head.name}): timm's models end with one linear layer": model.head.name != "linear",
        f"`data.task` ({data.task}): the folder is for classifiers": data.task not in PROBLEMS,
        f"`data.channels` ({data.channels}): transformers makes every image RGB": data.channels != 3,
        f"`data.bits` ({data.bits}): timm and transformers read images of 8 bits": data.bits != 8,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ConfigError(f"--format timm: {reason}; {ADVICE}")


def description(run: OpenedRun) -> dict[str, Any]:
    """Return the content of ``config.json``. It holds no path, user or host."""
    module: Any = run.model
    published = module.pretrained_cfg
    mean, std = statistics(run.config.data, run.network)
    frame = evaluation_frame(run.config, run.network)
    return {
        "architecture": published["architecture"],
        "num_classes": len(run.classes),
        "num_features": module.num_features,
        "label_names": run.classes,
        "problem_type": PROBLEMS[run.config.data.task],
        "model_args": _arguments(run),
        "pretrained_cfg": {
            "tag": "dist_train",
            "custom_load": False,
            "num_classes": len(run.classes),
            "input_size": [run.network.channels, *frame.size],
            "fixed_input_size": bool(published.get("fixed_input_size")),
            "interpolation": frame.interpolation,
            "crop_pct": crop_pct(frame),
            "crop_mode": TIMMS_MODES[frame.mode],
            "mean": list(mean),
            "std": list(std),
            "first_conv": published.get("first_conv"),
            "classifier": published.get("classifier"),
        },
    }


def _arguments(run: OpenedRun) -> dict[str, Any]:
    """Return the arguments of the model's constructor, but ``num_classes`` and those that act in training only."""
    hub, found = hub_model(run.config.model.name), {}
    if hub is not None and hub.folder is not None:
        found = dict(read_json(hub.folder / DESCRIPTION, default={}).get("model_args") or {})
    found |= run.config.model.options
    published: Any = run.model.pretrained_cfg
    if published.get("fixed_input_size"):
        height, width = run.network.image_size
        found["img_size"] = height if height == width else [height, width]
    return found


def crop_pct(frame: Frame) -> float:
    """Return timm's ``crop_pct``, of as few digits as give ``frame.scaled``: timm computes floor(size / crop_pct)."""
    sides = list(zip(frame.size, frame.scaled, strict=True))
    most, above = min(size / scaled for size, scaled in sides), max(size / (scaled + 1) for size, scaled in sides)
    middle = (most + above) / 2
    shorter = (round(ratio, digits) for digits in range(2, 7) for ratio in (most, middle))
    return next((share for share in shorter if _scaled(frame.size, share) == frame.scaled), middle)


def _scaled(size: Size, share: float) -> Size:
    return math.floor(size[0] / share), math.floor(size[1] / share)


def _weights(run: OpenedRun) -> dict[str, Tensor]:
    """Return the weights; those of the head are divided by the temperature."""
    heat = 1.0 if run.calibration is None else run.calibration.temperature
    weights = run.model.state_dict()
    return {
        name: value / heat if name in run.network.head and heat != 1.0 else value for name, value in weights.items()
    }


def _outputs(folder: Path, images: Tensor) -> Tensor:
    """Return what the model gives that timm builds from the folder."""
    model = timm.create_model(f"local-dir:{folder.absolute()}", pretrained=True).eval()
    with torch.no_grad():
        outputs: Tensor = model(images)
    return outputs
