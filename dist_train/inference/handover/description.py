"""What a program needs to know to use an exported model: ``model.json``."""

from typing import TYPE_CHECKING, Any

from dist_train.config.types import Size
from dist_train.data.augment.frame import Frame, evaluation_frame
from dist_train.evaluation.views import described
from dist_train.model.network import statistics
from dist_train.model.sources.hub import public_name

if TYPE_CHECKING:
    from dist_train.inference.open_run import OpenedRun

CHANNELS = {1: "grey", 3: "RGB", 4: "RGB and transparency"}
ACTIVATIONS = {"classification": "softmax", "multilabel": "sigmoid", "regression": "none"}


def describe(run: "OpenedRun") -> dict[str, Any]:
    """Return what a program needs to know to use the model."""
    mean, std = statistics(run.config.data, run.network)
    frame = evaluation_frame(run.config, run.network)
    return {
        "model": public_name(run.config.model.name),
        "source": run.config.model.source,
        "task": run.config.data.task,
        "classes": run.classes,
        "input": {
            "name": "images",
            "shape": ["batch", *run.network.blank_shape(1, frame.size)[1:]],
            "value_range": run.rules.value_range,
            **_geometry(frame),
            "interpolation": f"{frame.interpolation}{'' if frame.interpolation == 'nearest' else ', antialiased'}",
            "order": f"{CHANNELS.get(run.network.channels, 'channels as in training')}, scaled to 0..1, then (value - mean) / std",
            "levels": 2**run.config.data.bits,
            "mean": list(mean),
            "std": list(std),
        },
        "output": {"name": "outputs", "shape": ["batch", len(run.classes)]},
        "activation": ACTIVATIONS[run.config.data.task],
        "test_time_augmentation": described(run.config.eval.tta),
        "calibration": _calibration(run),
    }


def _calibration(run: "OpenedRun") -> dict[str, Any] | None:
    """Return temperature and thresholds, and which file has applied the temperature."""
    found = run.calibration
    if found is None:
        return None
    return {
        "temperature": found.temperature,
        "applied": "model.onnx and model.pt2 divide their outputs by the temperature; the weights in model.safetensors do not",
        "thresholds": dict(zip(run.classes, found.thresholds, strict=False)),
    }


def _geometry(frame: Frame) -> dict[str, Any]:
    """Return what to do with an image, in this order: numbers of one side, or lists of height and width, in pixels."""
    scaled, size = _short(frame.scaled), _short(frame.size)
    if frame.mode == "center":
        return {"resize_shorter_side_to" if isinstance(scaled, int) else "resize_to_cover": scaled, "crop_middle": size}
    cut = {} if frame.scaled == frame.size else {"crop_middle": list(frame.size)}
    if frame.mode == "squash":
        return {"resize_to": list(frame.scaled), **cut}
    resize = {"resize_longer_side_to" if isinstance(scaled, int) else "resize_to_fit_into": scaled}
    return {**resize, "crop_middle_or_pad_to" if cut else "pad_to": list(frame.size), "pad_colour": list(frame.fill)}


def _short(size: Size) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)
