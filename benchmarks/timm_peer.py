"""The peer: fine-tune with timm's functions as timm's training script does; the code is ours.

The package timm does not contain its training script. So we call the same functions in the same order: create_model,
create_dataset, create_loader with its prefetcher, create_optimizer_v2, ModelEmaV3, dispatch_clip_grad; and we read the loss
at every step.

    torchrun --nproc_per_node=2 benchmarks/timm_peer.py --root FOLDER --model vit_tiny_patch16_224 --size 96 --batch 8 --steps 20

Prints a line after each step.
"""

import argparse
import os
import tempfile
import time

import torch
from timm.data import create_dataset, create_loader
from timm.models import create_model
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, CheckpointSaver, ModelEmaV3, accuracy, dispatch_clip_grad
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind, default in (("root", str, None), ("model", str, None), ("size", int, 96), ("batch", int, 8),
                                ("steps", int, 10), ("workers", int, 2), ("optimizer", str, "adamw"), ("classes", int, 2)):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    args = parser.parse_args()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else torch.device("cpu")  # fmt: skip
    if world > 1:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    model: nn.Module = create_model(args.model, num_classes=args.classes, img_size=args.size).to(device)
    optimizer = create_optimizer_v2(model, opt=args.optimizer, lr=1e-4, weight_decay=0.05)
    ema = ModelEmaV3(model, decay=0.999)
    wrapped = DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None) if world > 1 else model  # fmt: skip
    dataset = create_dataset("folder", root=os.path.join(args.root, "train"), split="train", is_training=True)
    loader = create_loader(dataset, (3, args.size, args.size), args.batch, is_training=True, hflip=0.5, color_jitter=0.0,
                           interpolation="bicubic", num_workers=args.workers, distributed=world > 1, device=device)  # fmt: skip
    criterion, losses, done = nn.CrossEntropyLoss().to(device), AverageMeter(), 0
    wrapped.train()
    while done < args.steps:
        for images, labels in loader:
            loss = criterion(wrapped(images), labels)
            loss.backward()
            dispatch_clip_grad(model.parameters(), 1.0, mode="norm")
            optimizer.step()
            optimizer.zero_grad()
            ema.update(model, step=done)
            losses.update(loss.item(), len(images))
            done += 1
            if os.environ.get("RANK", "0") == "0":
                print(f"step {done} {losses.avg:.4f} at {time.time():.3f}", flush=True)
            if done == args.steps:
                break
    finish(args, model, optimizer, ema, device, world)
    if world > 1:
        torch.distributed.destroy_process_group()


def finish(args: argparse.Namespace, model: nn.Module, optimizer: torch.optim.Optimizer, ema: ModelEmaV3, device: torch.device, world: int) -> None:  # fmt: skip
    """Do what that script does at the end of an epoch: evaluate the EMA weights, save a checkpoint."""
    dataset = create_dataset("folder", root=os.path.join(args.root, "val"), split="val", is_training=False)
    loader = create_loader(dataset, (3, args.size, args.size), 64, num_workers=args.workers, distributed=world > 1, device=device)  # fmt: skip
    meter = AverageMeter()
    with torch.no_grad():
        for images, labels in loader:
            meter.update(accuracy(ema.module(images), labels)[0].item(), len(images))
    if os.environ.get("RANK", "0") == "0":
        with tempfile.TemporaryDirectory() as folder:
            saver = CheckpointSaver(model, optimizer, args, ema, checkpoint_dir=folder, recovery_dir=folder)
            saver.save_checkpoint(0, metric=meter.avg)


if __name__ == "__main__":
    main()
