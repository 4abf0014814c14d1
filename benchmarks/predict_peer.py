"""The peer of benchmarks/predict.py: predict a folder with timm's functions as timm's inference script does; the code is ours.

The package timm does not contain that script. So we call the same functions in the same order: create_model with a checkpoint,
resolve_data_config, create_dataset, create_loader with its prefetcher; softmax and top-k of each batch; one table at the end.
"""

import argparse

import numpy as np
import pandas as pd
import torch
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.models import create_model


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("root", "model", "checkpoint", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name, default in (("batch", 64), ("workers", 2), ("classes", 2), ("top", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = create_model(args.model, num_classes=args.classes, checkpoint_path=args.checkpoint).to(device).eval()
    config = resolve_data_config({}, model=model)
    loader = create_loader(
        create_dataset("folder", root=args.root), batch_size=args.batch, use_prefetcher=True,
        num_workers=args.workers, device=device, **config,
    )  # fmt: skip
    outputs, places = [], []
    with torch.no_grad():
        for images, _ in loader:
            found, place = model(images).softmax(-1).topk(min(args.top, args.classes), dim=-1)
            outputs.append(found.float().cpu().numpy())
            places.append(place.cpu().numpy())
    names = loader.dataset.filenames(basename=False)
    table = pd.DataFrame({"filename": names, "label": np.concatenate(places)[:, 0]})
    for number, column in enumerate(np.concatenate(outputs).T):
        table[f"prob_{number}"] = column
    table.to_csv(args.out, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
