"""The decoding rules of a run: decided by rank 0 when the run begins, kept in its folder, read by whatever comes later."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from dist_train.config.sections.data import DataConfig
from dist_train.data.decoding.rules import DecodeRules
from dist_train.data.decoding.value_range import Range, Values, describe, range_of
from dist_train.data.index import DataIndex
from dist_train.errors import ConfigError
from dist_train.run.branch import how_to_branch
from dist_train.run.folder import RunDir, must_be_readable
from dist_train.system.files import read_json, write_json

LOOKED_AT, DECODED = 256, 64
"""Training images whose headers are read, and how many of more than 8 bits are decoded; at even distances."""


def decide_rules(cfg: DataConfig, index: DataIndex, run: RunDir, resumed: bool) -> DecodeRules:
    """Return the rules of a run that begins, by its config and a sample of its images; of a resumed run the recorded ones.

    Raises:
        ConfigError: a resumed run began with another ``data.value_range``.
        DataError: images that a data set object returns could mean several things.
    """
    if not resumed:
        rules = _by_config(cfg, cfg.value_range)
        return replace(rules, value_range=cfg.value_range or _range_of_sample(index.with_rules(rules)))
    rules = _recorded(cfg, run)
    if cfg.value_range not in (None, rules.value_range):
        then = "null" if rules.value_range is None else describe(rules.value_range)
        error = ConfigError(
            f"`data.value_range` ({describe(cfg.value_range)}) was {then} when the run began, and a run sees the same "
            "pixels to its end; remove the key, choose another `run.name` for a new run, or "
            + how_to_branch(run, {"data.value_range": cfg.value_range})
        )
        error.of_this_start = True
        raise error
    return rules


def rules_of(cfg: DataConfig, run: RunDir) -> DecodeRules:
    """Return the rules by which to evaluate a run, or predict with it: those of its training, unless ``cfg`` sets a range."""
    return _by_config(cfg, cfg.value_range) if cfg.value_range else _recorded(cfg, run)


def _by_config(cfg: DataConfig, value_range: Range | None) -> DecodeRules:
    return DecodeRules(value_range, cfg.max_pixels, channels=cfg.channels, bits=cfg.bits, fast=cfg.fast_decode)


def record_rules(run: RunDir, rules: DecodeRules) -> None:
    """Write what the run has decided by its images; for rank 0."""
    write_json(run.decode_rules, {"value_range": rules.value_range})


def describe_rules(rules: DecodeRules) -> str:
    """Return a line for the log."""
    if rules.value_range is None:
        return "images: no more than 8 bits per channel in those looked at"
    return f"images of more than 8 bits: {describe(rules.value_range)} becomes 0 to {2**rules.bits - 1} (`data.value_range`)"


def _recorded(cfg: DataConfig, run: RunDir) -> DecodeRules:
    must_be_readable(run.decode_rules)  # without the file an image would be decoded as by the code before it
    found = read_json(run.decode_rules, default=None)
    bounds = found.get("value_range") if isinstance(found, dict) else None
    if not (found is None or isinstance(found, dict)) or not (bounds is None or _is_range(bounds)):
        raise ConfigError(
            f"{run.decode_rules} is damaged: `value_range` must be null or two numbers; restore it from a backup, or give "
            "`data.value_range`"
        )
    return replace(_by_config(cfg, tuple(bounds) if bounds else None), as_0_1_0=found is None)


def _is_range(bounds: Any) -> bool:
    return isinstance(bounds, list) and len(bounds) == 2 and all(type(bound) in (int, float) for bound in bounds)


def _range_of_sample(index: DataIndex) -> Range | None:
    sample = _deep_sample(index)
    first = next(sample, None)
    return None if first is None else range_of(itertools.chain([first], sample))


def _deep_sample(index: DataIndex) -> Iterator[Values]:
    split = index.train
    wanted = min(LOOKED_AT, len(split))
    decoded = 0
    for number in range(wanted):
        if decoded == DECODED:
            return
        image = index.images.deep(split.name(number * len(split) // wanted))
        if image is not None and np.isfinite(image.values).all():
            decoded += 1
            yield image.values
