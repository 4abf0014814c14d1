"""Models that a ``config.json`` beside their weights describes: ``hf-hub:REPOSITORY[@REVISION]`` and ``local-dir:FOLDER``.

timm reads the file. A repository of the Hugging Face hub is read from its cache, as a folder: nothing here uses the network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants

from dist_train.config.types import HUBS
from dist_train.errors import ConfigError
from dist_train.system.files import read_json

DESCRIPTION = "config.json"
WEIGHTS = (constants.SAFETENSORS_SINGLE_FILE, constants.PYTORCH_WEIGHTS_NAME)
"""Names of the file of weights, the preferred first."""


@dataclass(frozen=True)
class HubModel:
    """A model by its place.

    Attributes:
        name: ``model.name``.
        repo: the repository; empty for a folder.
        revision: the branch, tag or commit; None means the newest.
        path: the folder; empty for a repository.
    """

    name: str
    repo: str
    revision: str | None
    path: str

    @property
    def folder(self) -> Path | None:
        """Return the folder that holds the description; None if it is not on this machine."""
        if self.path:
            return Path(self.path) if (Path(self.path) / DESCRIPTION).is_file() else None
        found = huggingface_hub.try_to_load_from_cache(
            self.repo, DESCRIPTION, cache_dir=constants.HF_HUB_CACHE, revision=self.revision
        )
        return Path(found).parent if isinstance(found, str) else None

    def missing(self) -> str:
        """Return that the description is missing, and what to do."""
        said = f"`model.name` ({self.name}):"
        if self.path:
            return f"{said} {self.path} has no {DESCRIPTION}, which timm's `save_for_hf` writes; check the path"
        return (
            f"{said} its {DESCRIPTION} is not in {constants.HF_HUB_CACHE} (the environment variable HF_HOME changes this "
            "folder); run `python -m dist_train.fetch --config FILE` on a machine with network"
        )

    def described(self) -> tuple[str, dict[str, Any]]:
        """Return the name by which timm builds the model, and its ``pretrained_cfg``.

        Raises:
            ConfigError: the description is missing or damaged.
        """
        folder = self.folder
        if folder is None:
            raise ConfigError(self.missing())
        content = read_json(folder / DESCRIPTION, default={})
        published = content.get("pretrained_cfg", content)
        if not isinstance(content.get("architecture"), str) or not isinstance(published, dict):
            raise ConfigError(
                f"`model.name` ({self.name}): {folder / DESCRIPTION} does not describe a timm model: it has no `architecture`; "
                "use a model of timm's, or its weights with `model.weights`"
            )
        return f"local-dir:{folder}", published


def hub_model(name: str) -> HubModel | None:
    """Return the place that ``model.name`` names; None for other names.

    Raises:
        ConfigError: nothing follows the prefix.
    """
    prefix = next((prefix for prefix in HUBS if name.startswith(prefix)), None)
    if prefix is None:
        return None
    place = name.removeprefix(prefix)
    if not place:
        raise ConfigError(f"`model.name` ({name}): write {prefix}{'FOLDER' if prefix == HUBS[-1] else 'OWNER/NAME'}")
    if prefix == HUBS[-1]:
        return HubModel(name, "", None, str(Path(place).expanduser().absolute()))
    repo, _, revision = place.partition("@")
    return HubModel(name, repo, revision or None, "")


def public_name(model: str) -> str:
    """Return the name of a model without the folder in which it lies on this machine."""
    kind, _, path = model.partition(":")
    return f"{kind}:{Path(path).name}" if kind == "local-dir" else model
