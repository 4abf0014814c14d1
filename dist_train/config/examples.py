"""The example configs that every installation carries: ``dist-train --example``."""

import difflib
from pathlib import Path

from dist_train.errors import ConfigError

EXAMPLES = {
    "flowers": "your own folder of images, a small model, a laptop: the first run",
    "resnet50": "a pretrained ResNet-50 on your own folder of images",
    "vit": "ViT-B/16 at 384 px on Tiny ImageNet, all layers",
    "vit_head_only": "the same with a frozen backbone",
    "multilabel": "any number of labels per image, from CSV (needs a clone: `make demo`)",
    "regression": "numbers per image, from CSV (needs a clone: `make demo`)",
    "tiny_imagenet_small": "a small model on Tiny ImageNet on a CPU (needs a clone: `make demo`)",
    "demo": "what `make demo` runs in a clone",
    "cluster": "a site's defaults for `dist-train slurm --cluster-config FILE`",
}
_FOLDER = Path(__file__).parents[1] / "examples"


def listing() -> str:
    """Return the names of all examples, each with what it is for."""
    rows = [f"{name:21}{about}" for name, about in EXAMPLES.items()]
    return "\n".join(rows)


def example(name: str) -> str:
    """Return the text of an example.

    Raises:
        ConfigError: there is no such example.
    """
    if name not in EXAMPLES:
        near = difflib.get_close_matches(name, EXAMPLES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of: {', '.join(EXAMPLES)}"
        raise ConfigError(f"--example {name}: there is no such example; {hint}")
    return (_FOLDER / f"{name}.yaml").read_text().replace("--config configs/", "--config ")  # a clone's folder
