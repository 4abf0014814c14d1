"""The validation set that is a part of the training images: ``data.val_fraction`` or ``data.fold``.

Which images follows from ``data.val_seed`` and their names alone, not from the order of files or lines. Multilabel and
regression have no single classes: there the whole set is treated as one class. An image that a table repeats is one image.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dist_train.data.formats.base import Entries, Entry, class_of
from dist_train.data.selection.draw import drawn_by, has_repeats, spread
from dist_train.errors import DataError
from dist_train.seeding import fold_in_each

if TYPE_CHECKING:
    from dist_train.config.sections.data import DataConfig


def held_out(cfg: "DataConfig", entries: Sequence[Entry], groups: Mapping[str, str]) -> tuple[Entries, Entries]:
    """Return the entries of the training set, and those of the validation set.

    Args:
        groups: name of an image -> its group (``data.csv.group``); empty where each image is a group of its own.

    Raises:
        DataError: ``data.fold`` asks for more folds than there are images or groups.
    """
    entries = Entries.of(entries)
    if cfg.fold is None:
        numbers = _numbers(cfg, entries)
        held = drawn_by(numbers, entries.names, entries.classes(), partial(_share, cfg))
    else:
        held = _in_fold(cfg, entries, groups)
    return entries.where((~held).tobytes()), _once(entries.where(held.tobytes()))


def draw_numbers(cfg: "DataConfig", names: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of each name that decides, beside its class, whether it validates; int64 [N]."""
    return fold_in_each(cfg.val_seed, "val" if cfg.fold is None else "fold", names)


def _numbers(cfg: "DataConfig", entries: Entries) -> NDArray[np.int64]:
    return draw_numbers(cfg, entries.names) if entries.draws is None else entries.draws


def _in_fold(cfg: "DataConfig", entries: Entries, groups: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return which entries are in the fold that validates."""
    wanted, folds = cfg.fold_of
    numbers = _numbers(cfg, entries)
    if groups or has_repeats(numbers):
        once = {entry[0]: entry for entry in entries}
        number_of = folds_of(once.values(), groups, folds, cfg.val_seed)
        return np.fromiter((number_of[name] == wanted for name in entries.names), np.bool_, len(entries))
    _check_folds(folds, len(entries), "images")
    found: NDArray[np.bool_] = spread(numbers, entries.classes(), folds) == wanted
    return found


def _share(cfg: "DataConfig", images: int) -> int:
    """Return how many images of a class validate. A class of two images or more gives at least one, and keeps at least one."""
    assert cfg.val_fraction is not None
    return min(max(1, round(cfg.val_fraction * images)), images - 1)


def _once(entries: Entries) -> Entries:
    """Return each image once, where a table repeats it."""
    once = {entry[0]: entry for entry in entries}
    return entries if len(once) == len(entries) else Entries.of([*once.values()])


def folds_of(entries: Iterable[Entry], groups: Mapping[str, str], folds: int, seed: int) -> dict[str, int]:
    """Return the fold of each image by its name, from 0. No name comes twice.

    Each class is spread over the folds as evenly as its groups allow, as scikit-learn's ``StratifiedGroupKFold`` does: large
    groups first, each goes to the fold that has the fewest images of the group's classes so far, and then to the smallest fold.
    Without groups the folds differ by at most one image, in all and in each class.
    """
    if not groups:
        columns = Entries.of([*entries])
        _check_folds(folds, len(columns), "images")
        numbers = fold_in_each(seed, "fold", columns.names)
        return dict(zip(columns.names, spread(numbers, columns.classes(), folds).tolist(), strict=True))
    members: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[groups[entry[0]]].append(entry)
    _check_folds(folds, len(members), "values of `data.csv.group`")
    totals = Counter(class_of(entry) for group in members.values() for entry in group)
    in_fold: list[Counter[int]] = [Counter() for _ in range(folds)]
    found: dict[str, int] = {}
    number_of = dict(zip(members, fold_in_each(seed, "fold", [*members]).tolist(), strict=True))
    for name in sorted(members, key=lambda name: (-len(members[name]), number_of[name])):
        classes = Counter(map(class_of, members[name]))

        def load(fold: int, classes: Counter[int] = classes) -> tuple[float, int]:
            share = sum(count * in_fold[fold][kind] / totals[kind] ** 2 for kind, count in classes.items())
            return share, in_fold[fold].total()

        best = min(range(folds), key=load)
        in_fold[best] += classes
        found |= dict.fromkeys((entry[0] for entry in members[name]), best)
    return found


def _check_folds(folds: int, parts: int, kind: str) -> None:
    if parts < folds:
        raise DataError(f"`data.fold`: {folds} folds need at least {folds} {kind}, and there are {parts}")
