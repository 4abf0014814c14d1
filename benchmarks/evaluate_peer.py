"""The peer of benchmarks/evaluate.py: score a folder with timm's functions as timm's validation script does; the code is ours.

The package timm does not contain that script. So we call the same functions in the same order: create_model with a checkpoint,
resolve_data_config, create_dataset, create_loader with its prefetcher; loss and top-1 and top-5 of each batch. Under torchrun each rank
has its part of the images, and the sums are added up at the end.
"""

import argparse
import os

import torch
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.models import create_model
from timm.utils import AverageMeter, accuracy
from torch import nn


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("root", "model", "checkpoint"):
        parser.add_argument(f"--{name}", required=True)
    for name, default in (("batch", 64), ("workers", 1), ("classes", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else torch.device("cpu")  # fmt: skip
    model = create_model(args.model, num_classes=args.classes, checkpoint_path=args.checkpoint).to(device).eval()
    loader = create_loader(
        create_dataset("folder", root=args.root), batch_size=args.batch, use_prefetcher=True, num_workers=args.workers,
        distributed=world > 1, device=device, **resolve_data_config({}, model=model),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss().to(device)
    losses, top1, top5 = AverageMeter(), AverageMeter(), AverageMeter()
    with torch.inference_mode():
        for images, labels in loader:
            output = model(images)
            first, fifth = accuracy(output.detach(), labels, topk=(1, min(5, args.classes)))
            losses.update(criterion(output, labels).item(), images.size(0))
            top1.update(first.item(), images.size(0))
            top5.update(fifth.item(), images.size(0))
    sums = torch.tensor([losses.sum, top1.sum, top5.sum, losses.count], dtype=torch.float64, device=device)
    if world > 1:
        torch.distributed.all_reduce(sums)
    if os.environ.get("RANK", "0") == "0":
        print(
            f"loss {sums[0] / sums[3]:.4f} top1 {sums[1] / sums[3]:.2f} top5 {sums[2] / sums[3]:.2f} of {sums[3]:.0f} images"
        )
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
