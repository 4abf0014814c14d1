"""DataLoaders: processes that fill batches, and the way of a batch to the device."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from dist_train.config import Config
from dist_train.data.augment import evaluation_transform, training_transform
from dist_train.data.dataset import Batch, ImageDataset
from dist_train.data.index import DataIndex
from dist_train.data.stream import EvaluationBatches, StreamSampler
from dist_train.distributed import Dist
from dist_train.errors import DataError
from dist_train.model import Network
from dist_train.plan import Plan
from dist_train.preempt import ignore_stop_signals


def training_batches(
    cfg: Config, plan: Plan, group: Dist, index: DataIndex, network: Network, position: int
) -> Iterator[Batch]:
    """This rank's micro-batches on its device, from optimizer step ``position`` to the end of the run."""
    transform = training_transform(cfg.augment, network.image_size)
    dataset = ImageDataset(index.root, index.train, transform, network.image_size, cfg.run.seed)
    sampler = StreamSampler(dataset, plan, group.rank, cfg.run.seed, position)
    loader = DataLoader(
        dataset, batch_size=plan.micro_batch, sampler=sampler, **_options(cfg.data.workers, group.device)
    )
    return on_device(loader, group.device)


def evaluation_loader(cfg: Config, group: Dist, index: DataIndex, network: Network) -> DataLoader[Batch]:
    """This rank's share of the validation set, in batches that are the same at any world size."""
    # Cutting the middle out makes up for random crops, which show objects larger; without them it only loses pixels.
    crop_pct = network.crop_pct if cfg.augment.crop == "random_resized" else 1.0
    transform = evaluation_transform(network.image_size, crop_pct)
    dataset = ImageDataset(index.root, index.val, transform, network.image_size, cfg.run.seed)
    batches = EvaluationBatches(len(dataset), cfg.eval.batch_size, group.rank, group.world_size)
    options = _options(cfg.data.workers, group.device)
    return DataLoader(dataset, batch_sampler=batches, persistent_workers=cfg.data.workers > 0, **options)


def on_device(loader: DataLoader[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches to the device; from pinned memory, so that the copy does not hold up the host.

    Raises:
        DataError: as the loader process raised it, without that process's traceback.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except DataError as error:
            raise DataError(str(error).strip().rsplit("DataError: ", 1)[-1]) from None
        yield tuple(tensor.to(device, non_blocking=True) for tensor in batch)


def _options(workers: int, device: torch.device) -> dict[str, Any]:
    return {
        "num_workers": workers,
        "collate_fn": _already_a_batch,
        "pin_memory": device.type == "cuda",
        "worker_init_fn": _start_worker,
        "prefetch_factor": 4 if workers else None,
        # Forked processes share the paths and cost no import; from Python 3.14 on that must be said.
        "multiprocessing_context": "fork" if workers else None,
        # The loader draws a base seed from a generator when it starts; ours keeps the default one untouched.
        "generator": torch.Generator(),
    }


def _already_a_batch(batch: Batch) -> Batch:
    return batch


def _start_worker(_worker: int) -> None:
    ignore_stop_signals()
