"""The weights that are averaged: the best ones of several runs, or the checkpoints of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dist_train.checkpoint.format import read_weights
from dist_train.checkpoint.manifest import MANIFEST, STATE, Manifest
from dist_train.checkpoint.stored import damage, load
from dist_train.errors import ConfigError
from dist_train.system.files import sha256_of

if TYPE_CHECKING:
    from dist_train.inference.open_run import OpenedRun

Weights = dict[str, Any]


@dataclass(frozen=True)
class Member:
    """One set of weights.

    Attributes:
        name: of the run or the checkpoint, for people.
        file: that holds the weights.
        sha256: of the file.
        part: the key of the weights in a checkpoint; empty for a file of weights only.
    """

    name: str
    file: Path
    sha256: str
    part: str = ""

    def weights(self) -> Weights:
        """Return the state dict, on the CPU."""
        found: Weights = load(self.file.parent)[self.part] if self.part else read_weights(self.file)
        return found


def members_of(runs: "Sequence[OpenedRun]", last: int | None) -> list[Member]:
    """Return what to average: the best weights of several runs, or the last checkpoints of one.

    Raises:
        ConfigError: a run has another model or other classes than the first, or there are fewer than two sets of weights.
    """
    if len(runs) == 1:
        return checkpoints_of(runs[0], last)
    if last is not None:
        raise ConfigError(
            f"--last ({last}) is for the checkpoints of one run, but {len(runs)} runs are given; remove it"
        )
    places = [run.folder.path.resolve() for run in runs]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is given twice; give each run once")
    for run in runs[1:]:
        _same_kind(runs[0], run)
    return [Member(str(run.folder.path), run.folder.best, sha256_of(run.folder.best)) for run in runs]


def checkpoints_of(run: "OpenedRun", last: int | None) -> list[Member]:
    """Return the last checkpoints that a run has kept, the oldest first.

    Raises:
        ConfigError: there are fewer than two, or fewer than ``last``, or one is damaged.
    """
    if run.config.model.lora is not None:
        raise ConfigError(f"{run.folder.path}: checkpoints with `model.lora` hold adapters only; average several runs")
    folders = sorted(run.folder.checkpoints.glob("step_*"))
    wanted = len(folders) if last is None else last
    if len(folders) < max(2, wanted) or wanted < 2:
        raise ConfigError(
            f"{run.folder.path} has {len(folders)} checkpoint(s), and an average needs {max(2, wanted)}: give several runs, or train "
            "with a higher `checkpoint.keep`"
        )
    part = "ema" if run.result.weights == "ema" else "model"
    return [_checkpoint(folder, part) for folder in folders[-wanted:]]


def _checkpoint(folder: Path, part: str) -> Member:
    try:
        manifest = Manifest.read(folder)
        whole = not damage(folder, manifest)
    except (OSError, ValueError, KeyError):
        whole = False
    if not whole:
        raise ConfigError(f"{folder} is damaged; remove it, or average fewer checkpoints with --last")
    file = folder / (MANIFEST if manifest.shards else STATE)  # the manifest has the digests of all shards
    return Member(str(folder), file, sha256_of(file), part)


def _same_kind(first: "OpenedRun", other: "OpenedRun") -> None:
    """Raise ConfigError if two runs have other models, classes or image sizes."""
    one, two = str(first.folder.path), str(other.folder.path)
    if first.classes != other.classes:
        raise ConfigError(f"{two} has other classes than {one}; average runs on the same classes")
    mine, theirs = _shapes(first.model.state_dict()), _shapes(other.model.state_dict())
    differing = [name for name in dict.fromkeys([*mine, *theirs]) if mine.get(name) != theirs.get(name)]
    if differing:
        names = [f"{run.config.model.name} ({run.folder.path})" for run in (first, other)]
        raise ConfigError(
            f"{' and '.join(names)} are different models: {differing[0]} is {mine.get(differing[0], 'missing')} and "
            f"{theirs.get(differing[0], 'missing')}; average runs of one model"
        )
    if first.network.image_size != other.network.image_size:
        raise ConfigError(f"{two} has images of {other.network.image_size} px, {one} of {first.network.image_size} px")


def _shapes(state: Weights) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in state.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Mean:
    """The mean of state dicts. What is not a float (a counter) is that of the first.

    Attributes:
        sums: of the floats, in float64.
        count: how many state dicts they are sums of.
        differing: the names of the floats that are not the same in all of them.
    """

    first: Weights
    sums: Weights
    count: int = 1
    differing: frozenset[str] = frozenset()

    @classmethod
    def of(cls, first: Weights) -> "Mean":
        """Return the mean of one."""
        return cls(first, {name: value.double() for name, value in first.items() if _is_float(value)})

    def with_one_more(self, weights: Weights) -> "Mean":
        """Return the mean of these and ``weights``."""
        differing = {name for name in self.sums if not torch.equal(weights[name], self.first[name])}
        sums = {name: total + weights[name].double() for name, total in self.sums.items()}
        return Mean(self.first, sums, self.count + 1, self.differing | differing)

    def state_dict(self) -> Weights:
        """Return the mean, in the types of the first."""
        means = {name: (total / self.count).to(self.first[name].dtype) for name, total in self.sums.items()}
        return {name: means.get(name, value) for name, value in self.first.items()}


def _is_float(value: Any) -> bool:
    return torch.is_tensor(value) and value.is_floating_point()
