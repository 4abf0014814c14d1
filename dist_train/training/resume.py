"""Find the checkpoint that a start continues from, and check that it may continue."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.store import Checkpoints
from dist_train.config.load import parse_config
from dist_train.config.plan import Plan
from dist_train.config.rules.migrations import BEFORE
from dist_train.config.rules.refusals import refused_at_the_beginning
from dist_train.config.rules.resume_keys import OTHER_ROUNDING, changed_keys, kept_values, migrated_values
from dist_train.config.schema import Config
from dist_train.config.values import every_key, set_value, value_of
from dist_train.data.changed_files import changes_since, is_listed
from dist_train.data.index import NAMES_ONLY, DataIndex, with_sizes
from dist_train.data.report.overlap import check_overlap
from dist_train.errors import ConfigError, DataError
from dist_train.learning.own_parts import BASE, FROZEN
from dist_train.learning.schedule import refuse_changing
from dist_train.learning.schedule_length import continued
from dist_train.run.branch import how_to_branch
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system.files import read_json

log = logging.getLogger(__name__)


def as_it_began(cfg: Config, run: RunDir) -> Config:
    """Return the config of a start: what it leaves open stays as it was when the run began. For rank 0."""
    for path in sorted(run.checkpoints.glob("step_*/manifest.json"))[-1:]:
        then = read_json(path, default={}).get("config")
        return with_kept(cfg, then) if isinstance(then, dict) else cfg
    return cfg


def holds_sizes(cfg: Config, run: RunDir) -> bool:
    """Return whether the fingerprint of a run's data has the sizes of the files, however many there are. For rank 0.

    Fingerprints of older versions have them, and so have those of runs with a cache of decoded images, which depends on its files.
    """
    if cfg.augment.device:
        return True
    for path in sorted(run.checkpoints.glob("step_*/manifest.json"), reverse=True):
        known = read_json(path, default={}).get("data_fingerprint")
        if isinstance(known, str):  # the newest may be damaged
            return not known.endswith(NAMES_ONLY)
    return False


def with_kept(cfg: Config, then: dict[str, Any]) -> Config:
    """Return the config of a resume, with what it takes from its run.

    Args:
        then: the ``arithmetic`` of the run's checkpoint.
    """
    tree = cfg.model_dump(mode="json")
    changed = {key: value for key, value in kept_values(cfg, then).items() if value_of(tree, key) != value}
    for key, value in changed.items():
        set_value(tree, key, value)
    return parse_config(tree) if changed else cfg


def find_checkpoint(
    cfg: Config,
    checkpoints: Checkpoints,
    index: DataIndex,
    compared: dict[str, Any],
    plan: Plan,
    only_look: bool = False,
) -> tuple[Path | None, Plan]:
    """Return the folder of the newest valid checkpoint (None for a new run), and the plan to follow. For rank 0.

    Args:
        compared: the values, by key, that must be the same as when the run started.
        plan: by the config of this start. The plan that is returned knows where the schedule of the run has started again.
        only_look: do not move damaged checkpoints aside.

    Raises:
        ConfigError, DataError: the run must not continue with this config or data, or ``run.resume`` forbids it. Nothing
            is changed.
    """
    found = checkpoints.newest(only_look)
    try:
        if found is None:
            _may_begin(cfg, index, RunDir.of(cfg.run))
            refuse_changing(cfg.schedule, cfg.optim.lr, plan)
            return None, plan
        _may_go_on(cfg, index, compared, plan.world_size, *found)
        plan = _continued(cfg, plan, found[1])
        refuse_changing(cfg.schedule, cfg.optim.lr, plan)
        return found[0], plan
    except (ConfigError, DataError) as error:
        error.of_this_start = True
        raise


def _may_begin(cfg: Config, index: DataIndex, run: RunDir) -> None:
    if cfg.run.resume == "must":
        raise ConfigError(
            f"`run.resume` (must): {run.checkpoints} holds no valid checkpoint; use run.resume=auto to start at step 0"
        )
    if refused := refused_at_the_beginning(cfg):
        raise ConfigError("\n".join(refused))
    if index.refused:
        raise DataError("\n".join(index.refused))
    known = read_result(run)
    # A run that was killed before its first checkpoint is neither stopped nor done: it starts again at step 0. So does a
    # stopped run whose only checkpoint is damaged, and one that was stopped before its first checkpoint.
    removed = known.get("status") == "stopped" and known.get("step") and not any(run.checkpoints.glob("*step_*"))
    if removed or known.get("status") == "done":
        raise ConfigError(
            f"{run.path} is {known['status']} at step {known.get('step', 0)}, but {run.checkpoints} holds no valid checkpoint: "
            "starting again at step 0 would overwrite its results; restore a checkpoint, remove the run folder, or choose "
            "another `run.name`"
        )
    if overlap := check_overlap(cfg, index):
        log.warning("%s", overlap)


def _may_go_on(
    cfg: Config, index: DataIndex, compared: dict[str, Any], ranks: int, path: Path, manifest: Manifest
) -> None:
    if cfg.run.resume == "never":
        raise ConfigError(
            f"`run.resume` (never): {path} exists; choose another `run.name`, remove the run folder, or use "
            "run.resume=auto to continue it"
        )
    for refused in (*refused_at_the_beginning(cfg), *index.refused):
        log.warning("%s; the run started before this rule existed, so it continues", refused)
    known = {key: value for key, value in manifest.config.items() if not key.startswith((FROZEN, BASE))}
    _same_arithmetic(known, compared, path, RunDir.of(cfg.run))
    for key in changed_keys(known, compared).keys() & set(OTHER_ROUNDING):
        was = strategy_that_ran(migrated_values(known)[key], manifest.world_size)
        is_now = strategy_that_ran(compared[key], ranks)
        if was != is_now:
            log.warning(
                "`%s` was %s and is now %s; each step keeps its samples and learning rate; sums are rounded differently",
                *(key, was, is_now),
            )
    _same_data(manifest, index, RunDir.of(cfg.run))


def strategy_that_ran(strategy: Any, ranks: int) -> str:
    """Return the strategy of ``ranks`` ranks in words, from the recorded ``distributed.strategy`` (auto unless it divides weights)."""
    if ranks == 1:
        return "one process"
    if isinstance(strategy, dict):
        return f"{strategy['name']} with {', '.join(strategy.keys() - {'name'})}"
    return "ddp" if strategy == BEFORE["distributed.strategy"] else str(strategy)


def _continued(cfg: Config, plan: Plan, manifest: Manifest) -> Plan:
    """Return the plan of a run that goes on: see ``schedule_length.continued``."""
    run = RunDir.of(cfg.run)
    total, starts = manifest.total_steps, manifest.schedule_starts or [0]
    if total is None:  # of an older version, which records the length only here
        total = int(read_result(run).get("total_steps") or 0)
    before = replace(plan, total_steps=total, schedule_starts=tuple(starts)) if total >= manifest.step else plan
    length = {"train.epochs": cfg.train.epochs, "train.max_steps": cfg.train.max_steps}
    return continued(cfg, plan, before, manifest.step, how_to_branch(run, length))


def refuse_other_frozen_weights(path: Path, compared: dict[str, Any], run: RunDir) -> None:
    """Compare frozen parts of the objective and LoRA's base weights with those that the checkpoint recorded. For rank 0.

    Args:
        compared: as in ``find_checkpoint``, and the SHA-256 of each frozen part (``TrainState.hashes``).

    Raises:
        ConfigError: a frozen part was added or removed, or has other weights.
    """
    manifest = Manifest.read(path)
    if "loss.objective" not in manifest.config:
        return  # version 0.1.0 did not record frozen parts
    try:
        _same_base(manifest.config, compared, path)
        _same_arithmetic(manifest.config, compared, path, run)
    except ConfigError as error:
        error.of_this_start = True
        raise


def _same_base(then: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    if then.get(BASE) != now.get(BASE):
        raise ConfigError(
            f"`model.lora`: the base weights are not those of {path}, which holds only what trains (SHA-256 of the base "
            f"{str(then.get(BASE))[:12]}, now {str(now.get(BASE))[:12]}); restore the file or the published weights that the "
            "run began with, or choose another `run.name`"
        )


def _same_arithmetic(then: dict[str, Any], now: dict[str, Any], path: Path, run: RunDir) -> None:
    differing = {key: line for key, line in changed_keys(then, now).items() if key not in OTHER_ROUNDING}
    if differing:
        values = {key: now[key] for key in every_key(Config) if key in differing and key in now}
        raise ConfigError(
            f"{path} belongs to a run with other values of keys that change the weights: {'; '.join(differing.values())}. "
            f"Restore these values, choose another `run.name` for a new run, or {how_to_branch(run, values)}"
        )


def _same_data(manifest: Manifest, index: DataIndex, run: RunDir) -> None:
    if manifest.data_fingerprint == index.fingerprint and not index.has_sizes:
        if not run.listing.exists():
            log.warning(
                "the sizes of the files were not recorded before the run ended: only names and labels are compared"
            )
            return
        index = with_sizes(index)
        same = is_listed(run.listing, index)
    else:
        same = manifest.data_fingerprint == index.fingerprint
    if not same:
        raise DataError(
            f"`data.root` ({index.root}) has changed since the run started: {changes_since(run.listing, index)} "
            f"(fingerprint {index.fingerprint[:12]}, in the checkpoint {manifest.data_fingerprint[:12]}); "
            f"restore the data, choose another `run.name` for a new run, or {how_to_branch(run, {})}"
        )
