"""``export --format onnx``: ``model.safetensors`` and ``model.onnx``, which any program loads, and ``model.json`` beside them."""

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
from dist_train.errors import EXIT_DONE, ConfigError, DistTrainError
from dist_train.inference.handover.comparison import TOLERANCE, calibrated, compare, noise
from dist_train.inference.handover.description import describe
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.model.build import build_model
from dist_train.model.trained.open_model import load_own
from dist_train.run.saved_config import Which
from dist_train.system.files import atomic_write, json_text, write_json
from dist_train.system.terminal import writing_output

NAMED = ("mean", "std", "interpolation")
"""Of the description's input: what programs look for by a name of its own."""

HALF_TOLERANCE = 2e-2
"""As ``TOLERANCE``, for float16, whose numbers have three digits: about 1e-3 for a model without outliers."""


def export_onnx(path: Path, which: Which, folder: Path, trust: bool = False, half: bool = False) -> int:
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


class _Half(nn.Module):
    """A model in float16, for images and outputs in float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = copy.deepcopy(module).half()

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self._module(images.half())
        return outputs.float()


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
