"""``export --format pt2``: a graph of ``torch.export``, which ``torch.export.load`` opens without this package or timm."""

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from dist_train.errors import EXIT_DONE, DistTrainError
from dist_train.inference.handover.comparison import calibrated, compare, noise
from dist_train.inference.handover.description import describe
from dist_train.inference.open_run import open_run
from dist_train.run.saved_config import Which
from dist_train.system.files import atomic_write, json_text, write_json
from dist_train.system.terminal import writing_output

EXTRA = "model.json"
"""The name of the description within ``model.pt2``: ``torch.export.load(file, extra_files={"model.json": ""})``."""


def export_pt2(path: Path, which: Which, folder: Path, trust: bool = False) -> int:
    """Write ``model.pt2`` for any batch size, and ``model.json``, and compare the outputs.

    Returns:
        The exit code.

    Raises:
        ConfigError: the run has no weights.
        DistTrainError: torch cannot export the model, or the outputs of the file differ from those of the model.
    """
    run = open_run(path, which, "cpu", trust=trust)
    module, text = calibrated(run), json_text(describe(run))
    with writing_output("--out", folder):
        folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.pt2"
    content = packed(file, module, noise(run, 2), text)
    with writing_output("--out", folder), atomic_write(file) as target:
        target.write(content)
    write_json(folder / EXTRA, describe(run))
    # Other images and other batch sizes than for the export.
    loaded = torch.export.load(file).module()
    for images in (noise(run, 1), noise(run, 3)):
        with torch.no_grad():
            compare(file, module(images), loaded(images))
    return EXIT_DONE


def packed(path: Path, module: nn.Module, images: Tensor, description: str) -> bytes:
    """Return the content of the file, without stack traces, which name folders of this machine.

    Args:
        path: of the file, for the error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own internals
            program = torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except (RuntimeError, TypeError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DistTrainError(f"{path}: torch.export cannot export this model: {reason.strip()}") from error
    _forget_traces(program)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={EXTRA: description})
    return content.getvalue()


def _forget_traces(program: ExportedProgram) -> None:
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta.pop("stack_trace", None)
