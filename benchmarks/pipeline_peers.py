"""The sides of benchmarks/pipeline.py: each makes an endless stream of batches from a folder of images, on one core.

All use bilinear resizing, the default of torchvision and timm in training.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from timm.data import create_dataset, create_transform
from timm.data.loader import fast_collate
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from dist_train.config import Config, parse_config
from dist_train.config.plan import Plan
from dist_train.config.planning import make_plan
from dist_train.data.augment.ops.timm_policies import posterize
from dist_train.data.bad_images import BadImages
from dist_train.data.dataset import SmallImages
from dist_train.data.index import DataIndex, scan
from dist_train.data.loader import on_device, training_loader
from dist_train.data.pipeline import training_images
from dist_train.data.pixels.cache import open_cache
from dist_train.data.sampler import StreamSampler
from dist_train.distributed.group import Dist
from dist_train.model.network import Network

BATCH = 32
POLICY = "rand-m9-mstd0.5-inc1"
ALONE = Dist.alone()
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

Side = Callable[[Path], Iterator[int]]
"""Takes a folder, makes batches, and yields the number of images of each batch."""


def naive_384(root: Path) -> Iterator[int]:
    """The naive fine-tuning script: everything in torchvision's v1 transforms, float32 batches."""
    return _endless(
        ImageFolder(
            root / "train",
            transforms.Compose(
                [
                    transforms.Resize((384, 384)),
                    transforms.RandomHorizontalFlip(),
                    transforms.RandAugment(),
                    transforms.ToTensor(),
                    transforms.Normalize(**IMAGENET),
                    transforms.RandomErasing(),
                ]
            ),
        )
    )


def naive_224(root: Path) -> Iterator[int]:
    return _endless(
        ImageFolder(
            root / "train",
            transforms.Compose(
                [
                    transforms.RandomResizedCrop(224),
                    transforms.RandomHorizontalFlip(),
                    transforms.ToTensor(),
                    transforms.Normalize(**IMAGENET),
                ]
            ),
        )
    )


def timm_384(root: Path) -> Iterator[int]:
    """timm's transforms and its uint8 batches, without the work of its prefetcher on the device."""
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    return _timm(root, 384, auto_augment="rand-m9-mstd0.5", **whole)


def timm_224(root: Path) -> Iterator[int]:
    return _timm(root, 224, color_jitter=None)


def timm_policy_224(root: Path) -> Iterator[int]:
    """The transforms of timm's recipes, with posterize to 0 bits as timm had it before Pillow 13."""
    return _timm(root, 224, auto_augment=POLICY)


def _timm(root: Path, size: int, **options: Any) -> Iterator[int]:
    dataset = create_dataset("", root=str(root), split="train", is_training=True)
    dataset.transform = create_transform(
        size, is_training=True, use_prefetcher=True, interpolation="bilinear", **options
    )
    for policy in dataset.transform.transforms:
        for op in getattr(policy, "ops", ()):
            if op.name == "PosterizeIncreasing":
                op.aug_fn = posterize
    return _endless(dataset, fast_collate)


def _endless(dataset: Dataset[Any], collate: Callable[..., Any] | None = None) -> Iterator[int]:
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(dataset, BATCH, shuffle=True, drop_last=True, collate_fn=collate, generator=generator)
    while True:
        for images, _ in loader:
            yield len(images)


def ours_384(interpolation: str) -> Side:
    return lambda root: batches_of(config(root, randaugment={"interpolation": interpolation}), 384)


def ours_224(root: Path) -> Iterator[int]:
    return batches_of(config(root, crop="random_resized"), 224)


def ours_policy_224(root: Path) -> Iterator[int]:
    return batches_of(config(root, crop="random_resized", ops=[POLICY]), 224)


def ours_small(root: Path) -> Iterator[int]:
    """The loader's share with ``augment.device``: stored images and random draws. The device does the rest, not measured."""
    cfg = config(root, {"cache": str(root / "cache")}, device=True, randaugment={})
    index, plan, bad = _opened(cfg)
    cache = open_cache(cfg.data, index, ALONE, bad.note)
    dataset = SmallImages(
        index.train, cache.reader("train"), cfg.augment, cache.size, cfg.run.seed, bad.note, cache.size
    )
    sampler = StreamSampler(dataset, plan, rank=0, seed=cfg.run.seed)
    for batch in DataLoader(dataset, BATCH, sampler=sampler, collate_fn=lambda batch: batch):
        yield len(batch[0])


def config(root: Path, data: dict[str, Any] | None = None, **augment: Any) -> Config:
    return parse_config(
        {
            "run": {"name": "pipeline"},
            "model": {"name": "test_vit"},
            "data": {"root": str(root), "workers": 0, **(data or {})},
            "augment": {"interpolation": "bilinear", **augment},
            "optim": {"lr": 0.1},
            "train": {"global_batch": BATCH, "epochs": 1_000_000},
        }
    )


def batches_of(cfg: Config, size: int) -> Iterator[int]:
    """Yield the size of each batch over which the trainer iterates, epoch after epoch."""
    index, plan, bad = _opened(cfg)
    network = Network(torch.nn.Identity(), frozenset(), (), (size, size), (0.5,) * 3, (0.5,) * 3)
    dataset = training_images(cfg, index, network, bad, None)
    sampler = StreamSampler(dataset, plan, 0, cfg.run.seed, 0)
    loader = training_loader(cfg.data, dataset, sampler, plan.micro_batch, ALONE.device)
    for images, _, _ in on_device(loader, ALONE.device):
        yield len(images)


def _opened(cfg: Config) -> tuple[DataIndex, Plan, BadImages]:
    index = scan(cfg.data)
    return index, make_plan(cfg, len(index.train), 1), BadImages(cfg.data, index)
