"""Images that cannot be decoded: how many a run accepts, and which they were."""

from pathlib import Path
from typing import Any

import torch

from dist_train.config.sections.data import DataConfig
from dist_train.data.decoding.picture import BadImage
from dist_train.data.index import DataIndex
from dist_train.data.split import Split, SplitName
from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from dist_train.system.files import read_json, write_json


class BadImages:
    """The bad images that the loader processes of this rank have met; they pass them on through shared memory."""

    def __init__(self, cfg: DataConfig, index: DataIndex) -> None:
        self._cfg, self._index = cfg, index
        self._splits: dict[SplitName, Split] = {"train": index.train, "val": index.val}
        kept = cfg.bad_images == "skip"
        self._met = {
            name: torch.zeros(len(split) if kept else 0, dtype=torch.int32).share_memory_()  # type: ignore[no-untyped-call]
            for name, split in self._splits.items()
        }

    def note(self, split: SplitName, index: int, error: BadImage) -> None:
        """Count an image, once.

        Raises:
            DataError: ``data.bad_images`` is error, or there are more bad images than ``data.max_bad_share`` allows.
        """
        if self._cfg.bad_images == "error":
            raise DataError(
                f"{error}; repair or remove it, or let up to `data.max_bad_share` of the images be skipped with "
                "`data.bad_images=skip`"
            ) from None
        self._met[split][index] = 1
        self._within_share(split, int(self._met[split].sum()), error)

    def _within_share(self, split: SplitName, count: int, example: object) -> None:
        images, share = self._splits[split], self._cfg.max_bad_share
        if count > share * len(images):
            name = "train" if images is self._index.train else split  # an evaluation may be of the training images
            raise DataError(
                f"{count} of {len(images)} {name} images cannot be read, more than `data.max_bad_share` ({share}) allows; "
                f"raise it, or repair or remove them (`look --doctor` lists them); the last: {example}"
            )

    def report(self, group: Dist, path: Path) -> int:
        """Add the bad images of all ranks to the list at ``path``, and return its length. Every rank must call it.

        Raises:
            DataError: all ranks together, in this attempt and those before it, have met too many.
        """
        if self._cfg.bad_images == "error":
            return 0
        met = self._met_by_all(group)
        return group.from_main(lambda: self._add_to_list(path, met))

    def check(self, group: Dist) -> None:
        """Check the share over all ranks, where no run folder keeps a list. Every rank must call it.

        Raises:
            DataError: all ranks together have met too many.
        """
        if self._cfg.bad_images == "error":
            return
        for split, indices in self._met_by_all(group).items():
            self._within_share(split, len(indices), self._splits[split].name(indices[-1]) if indices else "")

    def _met_by_all(self, group: Dist) -> dict[SplitName, list[int]]:
        met: dict[SplitName, list[int]] = {}
        for split, mine in self._met.items():
            total = group.sum(mine.sum().double().to(group.device))
            everywhere = group.sum(mine.clone().to(group.device)) if total else mine
            met[split] = everywhere.nonzero().flatten().tolist()
        return met

    def _add_to_list(self, path: Path, met: dict[SplitName, list[int]]) -> int:
        known = [entry for entry in read_json(path, default=[]) if _is_entry(entry)]
        listed = {(entry["split"], entry["path"]) for entry in known}
        for split, indices in met.items():
            for name in map(self._splits[split].name, indices):
                if (split, name) not in listed:
                    known.append({"split": split, "path": name, "reason": self._reason(name)})
        if len(known) > len(listed):
            write_json(path, sorted(known, key=lambda entry: (entry["split"], entry["path"])))
        for split in self._splits:
            paths = [entry["path"] for entry in known if entry["split"] == split]
            self._within_share(split, len(paths), paths[-1] if paths else "")
        return len(known)

    def _reason(self, name: str) -> str:
        try:
            self._index.images.open(name).pixels()
        except DataError as error:
            return str(error)
        return "it could not be read before, and can be read now"


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("split", "path"))
