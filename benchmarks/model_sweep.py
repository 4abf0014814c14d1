"""Build every classifier of timm and torchvision with a new head; check which parameters train and the output's shape.

    nice python benchmarks/model_sweep.py --out benchmarks/results/model_sweep.json

Each model is built with 7 outputs and a frozen backbone, first with a linear, then with an mlp head. It passes if exactly
the parameters of the new layers train (their number follows from the number of features), and a forward pass of 2 images
gives [2, 7]. Models run on torch's meta device, which computes shapes but no numbers; models that cannot run there run on
the CPU. A worker process ends after a few models, to limit memory. Models in the output file are not tried again.
"""

import argparse
import json
import multiprocessing
import resource
import signal
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

OUTPUTS = 7
HIDDEN = 509
"""Width of the mlp's hidden layer; no model has this number of features."""
LIMIT_S = 600
MEMORY_BYTES = 8 * 2**30
"""Memory limit of a worker: the largest models have 30 GB, and a few of them may run on the CPU."""


def check_model(source: str, name: str) -> dict[str, Any]:
    """Try one model with both heads.

    Returns:
        A row: ``ok``, ``device``, ``parameters``, and for each head the parameters that train; or the ``error``.
    """
    import torch

    began = time.monotonic()
    row: dict[str, Any] = {"source": source, "name": name, "ok": False, "hidden": HIDDEN}
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                found = {head: _check_head(source, name, head) for head in ("linear", "mlp")}
            row |= {"ok": True, "device": device, **_merge(found)}
            break
        except Exception as error:  # noqa: BLE001 - the reason is the result
            reason = str(error).strip().splitlines()
            row[f"{device}_error"] = f"{type(error).__name__}: {reason[0][:300] if reason else ''}"
            if isinstance(error, AssertionError):
                break
    return {**row, "seconds": round(time.monotonic() - began, 2)}


def _check_head(source: str, name: str, head: str) -> dict[str, int]:
    import torch
    from torch import nn

    from dist_train.config.sections.model import HeadConfig, ModelConfig
    from dist_train.model.build import build_model

    cfg = ModelConfig(
        source=source,  # type: ignore[arg-type]
        name=name,
        pretrained=False,
        freeze="backbone",
        head=HeadConfig(name=head, hidden=(HIDDEN,)),  # type: ignore[arg-type]
    )
    network = build_model(cfg, OUTPUTS, None)
    module = network.module.eval()
    trains = {key: p for key, p in module.named_parameters() if p.requires_grad}
    layers = {key.rpartition(".")[0]: module.get_submodule(key.rpartition(".")[0]) for key in trains}
    expected = 0
    for layer in layers.values():
        assert isinstance(layer, nn.Linear | nn.Conv2d), f"{type(layer).__name__} trains"
        width, outputs = layer.weight.shape[1], layer.weight.shape[0]
        assert outputs == (OUTPUTS if head == "linear" or width == HIDDEN else HIDDEN), f"{outputs} outputs"
        expected += outputs * (width + (layer.bias is not None))
    count = sum(p.numel() for p in trains.values())
    assert set(trains) == network.head, "what trains is not the head"
    assert count == expected > 0, f"{count} parameters train, not {expected}"
    with torch.no_grad():
        out = module(torch.zeros(network.blank_shape(2)))
    assert tuple(out.shape) == (2, OUTPUTS), f"output is {tuple(out.shape)}"
    return {"parameters": sum(p.numel() for p in module.parameters()), "trains": count, "layers": len(layers)}


def _merge(found: dict[str, dict[str, int]]) -> dict[str, Any]:
    return {
        "parameters": found["linear"]["parameters"],
        **{f"{head}_trains": row["trains"] for head, row in found.items()},
        "head_layers": found["linear"]["layers"],
    }


def _quiet_worker() -> None:
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))


def _limited(source: str, name: str) -> dict[str, Any]:
    def late(_signal: int, _frame: Any) -> None:
        raise TimeoutError(f"took more than {LIMIT_S} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        return check_model(source, name)
    finally:
        signal.alarm(0)


def sweep(names: list[tuple[str, str]], out: Path, workers: int, per_worker: int) -> list[dict[str, Any]]:
    """Try all models that are not yet in ``out``, a few at a time, and add each result to ``out``."""
    lines = out.with_suffix(".jsonl")
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    done = {(row["source"], row["name"]) for row in rows}
    left = [key for key in names if key not in done]
    context = multiprocessing.get_context("spawn")
    with open(lines, "a") as file:
        while left:
            with ProcessPoolExecutor(workers, context, _quiet_worker, max_tasks_per_child=per_worker) as pool:
                futures = {key: pool.submit(_limited, *key) for key in left[: per_worker * workers]}
                for key, future in futures.items():
                    try:
                        row = future.result()
                    except BrokenProcessPool:  # out of memory
                        row = {"source": key[0], "name": key[1], "ok": False, "error": "the process died"}
                    rows.append(row)
                    file.write(json.dumps(row) + "\n")
                    file.flush()
            left = left[per_worker * workers :]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pattern", default="*", help="only names that match (*)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/model_sweep.json"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--per-worker", type=int, default=25, help="number of models that a worker process tries (25)")
    args = parser.parse_args()
    from dist_train.model.backbones import list_models

    began = time.monotonic()
    rows = sweep(list_models(args.pattern), args.out, args.workers, args.per_worker)
    failed = [row for row in rows if not row["ok"]]
    summary = {
        "command": f"python benchmarks/model_sweep.py --pattern '{args.pattern}' --workers {args.workers}",
        "models": len(rows),
        "passed": len(rows) - len(failed),
        "by_source": {
            source: f"{sum(r['ok'] for r in rows if r['source'] == source)} of {sum(r['source'] == source for r in rows)}"
            for source in sorted({row["source"] for row in rows})
        },
        "on_meta_device": sum(row.get("device") == "meta" for row in rows),
        "seconds": round(time.monotonic() - began),
        "failed": failed,
    }
    args.out.write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{summary['passed']} of {summary['models']} passed; {summary['by_source']}")
    for row in failed:
        print(row["source"], row["name"], {key: value for key, value in row.items() if key.endswith("error")})


if __name__ == "__main__":
    main()
