"""The command ``python -m dist_train.export``: write files for other programs, and check that they compute the same."""

import copy
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dist_train.checkpoint.format import save_weights
from dist_train.config.types import Size
from dist_train.data.augment.frame import Frame, evaluation_frame
from dist_train.errors import EXIT_DONE, ConfigError, DistTrainError
from dist_train.evaluation.calibration import Calibration
from dist_train.evaluation.views import described
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.model.build import build_model
from dist_train.model.network import statistics
from dist_train.model.sources.hub import public_name
from dist_train.model.trained.open_model import load_own
from dist_train.run.saved_config import Which
from dist_train.system.files import atomic_write, json_text, write_json
from dist_train.system.terminal import writing_output

NAMED = ("mean", "std", "interpolation")
CHANNELS = {1: "grey", 3: "RGB", 4: "RGB and transparency"}

TOLERANCE = 1e-3
"""The largest allowed difference of an output, relative to the largest output; with float32 it is about 1e-6."""
HALF_TOLERANCE = 2e-2
"""The same for float16, whose numbers have three digits: about 1e-3 for a model without outliers."""


def export_run(path: Path, which: Which, folder: Path, trust: bool = False, half: bool = False) -> int:
    """Write the model as .safetensors, as .onnx and its description, and compare the outputs of both files.

    Args:
        half: write ``model_fp16.onnx``, which computes in float16, in place of ``model.onnx``; it takes and gives float32.

    Returns:
        The exit code.

    Raises:
        ConfigError: the run has no weights, or ONNX is not installed.
        DistTrainError: the outputs of a file differ from those of the model.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"export needs {', '.join(missing)}: pip install {' '.join(missing)}")
    run = open_run(path, which, "cpu", trust=trust)
    module = run.model
    images = noise(run, 2)
    with torch.no_grad():
        expected = module(images)
    with writing_output("--out", folder):
        folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / "model.safetensors", module.state_dict())
    description = describe(run)
    write_json(folder / "model.json", description)
    published, file = calibrated(run), folder / ("model_fp16.onnx" if half else "model.onnx")
    _write_onnx(file, _Half(published).eval() if half else published, images, description)
    compare(folder / "model.safetensors", expected, _run_safetensors(folder / "model.safetensors", run, images))
    # Other images and another batch size than for the export.
    more = noise(run, 3)
    with torch.no_grad():
        compare(file, published(more), _run_onnx(file, more), HALF_TOLERANCE if half else TOLERANCE)
    return EXIT_DONE


def noise(run: OpenedRun, images: int) -> Tensor:
    """Return a batch of made-up images for the model, float32 [B, C, H, W]."""
    shape = run.network.blank_shape(images, frame_of(run).size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(images))


def describe(run: OpenedRun) -> dict[str, Any]:
    """Return what a program needs to know to use the model."""
    mean, std = statistics(run.config.data, run.network)
    frame = frame_of(run)
    activation = {"classification": "softmax", "multilabel": "sigmoid", "regression": "none"}
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
        "activation": activation[run.config.data.task],
        "test_time_augmentation": described(run.config.eval.tta),
        "calibration": _calibration(run),
    }


def _calibration(run: OpenedRun) -> dict[str, Any] | None:
    """Return temperature and thresholds, and which file has applied the temperature."""
    found = run.calibration
    if found is None:
        return None
    return {
        "temperature": found.temperature,
        "applied": "model.onnx and model.pt2 divide their outputs by the temperature; the weights in model.safetensors do not",
        "thresholds": dict(zip(run.classes, found.thresholds, strict=False)),
    }


def calibrated(run: OpenedRun) -> nn.Module:
    """Return the model of a run, with the temperature if one was fitted."""
    return run.model if run.calibration is None else _Calibrated(run.model, run.calibration).eval()


class _Half(nn.Module):
    """A model in float16, for images and outputs in float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = copy.deepcopy(module).half()

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self._module(images.half())
        return outputs.float()


class _Calibrated(nn.Module):
    """A model whose outputs are divided by the temperature."""

    def __init__(self, module: nn.Module, calibration: Calibration) -> None:
        super().__init__()
        self._module, self._calibration = module, calibration

    def forward(self, images: Tensor) -> Tensor:
        return self._calibration.applied(self._module(images))


def frame_of(run: OpenedRun) -> Frame:
    """Return how the run's evaluation sees images."""
    return evaluation_frame(run.config, run.network)


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


def _write_onnx(path: Path, module: nn.Module, images: Tensor, description: dict[str, Any]) -> None:
    import onnx

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own internals
            program = torch.onnx.export(
                module,
                (images,),
                dynamo=True,
                input_names=["images"],
                output_names=["outputs"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = next((line for line in str(error.__cause__ or error).splitlines() if line.strip()), "no reason given")
        raise DistTrainError(
            f"{path}: torch cannot export this model to ONNX: {reason.strip()}; the other files in this folder are complete"
        ) from error
    assert program is not None
    proto = program.model_proto
    for part in (proto.graph, *proto.functions):
        _forget_traces(part)
    onnx.helper.set_model_props(proto, {"dist_train": json_text(description)} | _properties(description))
    with atomic_write(path) as file:
        file.write(proto.SerializeToString())


def _properties(description: dict[str, Any]) -> dict[str, str]:
    """Return what programs look for by a name of its own, each as JSON; ``dist_train`` has all of it."""
    inputs = description["input"]
    found = {"classes": description["classes"], "activation": description["activation"], "size": inputs["shape"][2:]}
    return {name: json.dumps(value) for name, value in (found | {k: inputs[k] for k in NAMED}).items()}


def _forget_traces(graph: Any) -> None:
    """Remove what torch's exporter writes about the origin of each node: stack traces with the paths of this machine."""
    for node in graph.node:
        del node.metadata_props[:]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _forget_traces(inner)


def _run_safetensors(path: Path, run: OpenedRun, images: Tensor) -> Tensor:
    """Return the outputs of a newly built model with the weights of the file."""
    cfg = run.config
    fresh = build_model(cfg.model, len(run.classes), cfg.data.image_size, load=False, channels=cfg.data.channels)
    load_own(fresh, path)
    with torch.no_grad():
        outputs: Tensor = fresh.module.eval()(images)
    return outputs


def _run_onnx(path: Path, images: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (outputs,) = session.run(["outputs"], {"images": images.numpy()})
    return torch.from_numpy(np.asarray(outputs))


def compare(path: Path, expected: Tensor, found: Tensor, tolerance: float = TOLERANCE) -> None:
    """Print by how much outputs [B, K] differ.

    Raises:
        DistTrainError: by more than ``tolerance``, relative to the largest one.
    """
    difference = float((expected - found).abs().max())
    largest = float(expected.abs().max())
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, outputs differ by at most {difference:.2g} (the largest output is {largest:.3g})"
    )
    if not difference <= tolerance * max(1.0, largest):
        raise DistTrainError(
            f"{path} does not compute the same as the model: outputs differ by {difference:.2g}, and at most "
            f"{tolerance:g} of the largest output is allowed; do not use this file"
        )
