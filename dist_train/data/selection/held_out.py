"""The validation set that is a part of the training images: ``data.val_fraction`` or ``data.fold``.

Which images follows from ``data.val_seed`` and their names alone, not from the order of files or lines. Multilabel and
regression have no single classes: there the whole set is treated as one class. An image that a table repeats is one image.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dist_train.data.formats.base import Entries, Entry, class_of
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
        given = _share(cfg, entries)
    else:
        wanted, folds = cfg.fold_of
        once = {entry[0]: entry for entry in entries}
        number_of = folds_of(once.values(), groups, folds, cfg.val_seed)
        given = {name for name, number in number_of.items() if number == wanted}
    train = entries.where(name not in given for name in entries.names)
    held = entries.where(name in given for name in entries.names)
    return train, Entries.of([*{entry[0]: entry for entry in held}.values()])


def _share(cfg: "DataConfig", entries: Entries) -> set[str]:
    """Return the names of ``data.val_fraction`` of the images of each class.

    An image that is added or removed moves few others. A class of two images or more gives at least one, and keeps at least
    one.
    """
    assert cfg.val_fraction is not None
    names: defaultdict[int, list[str]] = defaultdict(list)
    for name, target in zip(entries.names, entries.targets, strict=True):
        names[target if isinstance(target, int) else 0].append(name)
    given: set[str] = set()
    for repeated in names.values():
        group = [*dict.fromkeys(repeated)]
        most = min(max(1, round(cfg.val_fraction * len(group))), len(group) - 1)
        drawn = fold_in_each(cfg.val_seed, "val", group)
        given.update(group[place] for place in np.argsort(drawn, kind="stable")[:most].tolist())
    return given


def folds_of(entries: Iterable[Entry], groups: Mapping[str, str], folds: int, seed: int) -> dict[str, int]:
    """Return the fold of each image by its name, from 0.

    Each class is spread over the folds as evenly as its groups allow, as scikit-learn's ``StratifiedGroupKFold`` does: large
    groups first, each goes to the fold that has the fewest images of the group's classes so far, and then to the smallest fold.
    Without groups the folds differ by at most one image, in all and in each class.
    """
    members: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[groups[entry[0]] if groups else entry[0]].append(entry)
    if len(members) < folds:
        kind = "values of `data.csv.group`" if groups else "images"
        raise DataError(f"`data.fold`: {folds} folds need at least {folds} {kind}, and there are {len(members)}")
    totals = Counter(class_of(entry) for group in members.values() for entry in group)
    in_fold: list[Counter[int]] = [Counter() for _ in range(folds)]
    found: dict[str, int] = {}
    drawn = dict(zip(members, fold_in_each(seed, "fold", members).tolist(), strict=True))
    for name in sorted(members, key=lambda name: (-len(members[name]), drawn[name])):
        classes = Counter(map(class_of, members[name]))

        def load(fold: int, classes: Counter[int] = classes) -> tuple[float, int]:
            share = sum(count * in_fold[fold][kind] / totals[kind] ** 2 for kind, count in classes.items())
            return share, in_fold[fold].total()

        best = min(range(folds), key=load)
        in_fold[best] += classes
        found |= dict.fromkeys((entry[0] for entry in members[name]), best)
    return found
