"""The example configs that every installation contains: ``dist-train --example`` prints them."""

import difflib
from pathlib import Path

from dist_train.errors import ConfigError

EXAMPLES = {
    "flowers": "a first run: your own folder of images, a small model, on a laptop",
    "resnet50": "a pretrained ResNet-50 on your own folder of images",
    "vit": "ViT-B/16 at 384 px on Tiny ImageNet, all layers",
    "vit_head_only": "ViT-B/16 at 384 px on Tiny ImageNet, with a frozen backbone",
    "multilabel": "several labels per image, from CSV (needs a clone: `make demo`)",
    "regression": "numbers as targets, from CSV (needs a clone: `make demo`)",
    "tiny_imagenet_small": "a small model on Tiny ImageNet on a CPU (needs a clone: `make demo`)",
    "demo": "what `make demo` runs in a clone",
    "cluster": "defaults of your cluster, for `dist-train slurm --cluster-config FILE`",
}
_FOLDER = Path(__file__).parents[1] / "examples"


def listing() -> str:
    """Return one line per example: its name and its purpose."""
    rows = [f"{name:21}{about}" for name, about in EXAMPLES.items()]
    return "\n".join(rows)


def example(name: str) -> str:
    """Return the text of an example.

    Raises:
        ConfigError: no example has this name.
    """
    if name not in EXAMPLES:
        near = difflib.get_close_matches(name, EXAMPLES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of: {', '.join(EXAMPLES)}"
        raise ConfigError(f"--example {name}: no example has this name; {hint}")
    # The comments in the files name paths in a clone; the user saves the example in the current folder.
    return (_FOLDER / f"{name}.yaml").read_text().replace("--config configs/", "--config ")
