"""The command ``check``: find everything that can fail before the first step, without training."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from dist_train.checkpoint.store import Checkpoints
from dist_train.config.plan import Plan
from dist_train.config.planning import make_plan
from dist_train.config.rules.advice import advise
from dist_train.config.rules.resume_keys import arithmetic
from dist_train.config.schema import Config
from dist_train.config.sections.data import DataConfig
from dist_train.config.types import in_pixels
from dist_train.data.augment.ops.forms import Place
from dist_train.data.augment.ops.verify import check_ops
from dist_train.data.augment.size_schedule import training_sizes
from dist_train.data.decode_rules import decide_rules
from dist_train.data.doctor.findings import Finding, brief
from dist_train.data.index import DataIndex, scan
from dist_train.data.loading.room import check_room
from dist_train.data.loading.room import describe as describe_room
from dist_train.data.pipeline import loader_needs
from dist_train.data.pixels.cache import check_cache
from dist_train.data.report.description import describe as describe_data
from dist_train.distributed.group import Dist, choose_strategy
from dist_train.distributed.strategies.single import Single
from dist_train.errors import EXIT_DONE, ConfigError, DataError, DistTrainError
from dist_train.inference.pixel_report import describe_pixels
from dist_train.loggers.mlflow.wanted import wanted_uri
from dist_train.loggers.open import own_loggers
from dist_train.model.freeze import count_parameters
from dist_train.model.network import Network, mean_colour
from dist_train.run.folder import RunDir, must_be_writable
from dist_train.system.terminal import log_to_console, report, wrapped
from dist_train.training.cached.head_alone import with_head_alone
from dist_train.training.parts.build_state import build_state
from dist_train.training.parts.given import Given
from dist_train.training.report.first_look import refuse_without_matplotlib
from dist_train.training.report.run_page import refuse_without_packages
from dist_train.training.resume import as_it_began, find_checkpoint, holds_sizes
from dist_train.training.setup import build_network


def check_and_print(cfg: Config, world_size: int) -> int:
    """Check a config for a run on ``world_size`` ranks, and print the plan. Return the exit code."""
    log_to_console(0)
    try:
        check(cfg, world_size)
    except DistTrainError as error:
        return report(error)
    print("all good: nothing was trained, nothing was written")
    return EXIT_DONE


def check(cfg: Config, world_size: int) -> None:
    """Build all parts of a run, and print what they are.

    Raises:
        DistTrainError: the first error that was found.
    """
    alone = Dist.alone()
    if world_size == 1:
        choose_strategy(cfg.distributed.strategy.name, world_size, torch.cuda.device_count())
    run = RunDir.of(cfg.run)
    with must_be_writable(run):
        sized = holds_sizes(cfg, run)
    index = scan(cfg.data, strict=False, sized=sized)
    print(wrapped(describe_data(index)))
    cfg = as_it_began(cfg, run)
    checkpoints = Checkpoints(run.checkpoints, cfg.checkpoint.keep)
    begun = make_plan(cfg, len(index.train), world_size)
    with must_be_writable(run):
        saved, plan = find_checkpoint(cfg, checkpoints, index, arithmetic(cfg), begun, only_look=True)
    index = index.with_rules(decide_rules(cfg.data, index, run, resumed=saved is not None))
    _read_some_images(index)
    _check_loggers(cfg)
    if cfg.augment.device:
        print(wrapped([check_cache(cfg.data, index)]))
    network = build_network(cfg, index, alone, load=saved is None or cfg.model.lora is not None)
    if cfg.train.cached_features:
        network = with_head_alone(network, cfg.model.name, alone.device)
    _, state, _ = build_state(cfg, plan, Single(alone), network, index, Given())
    _try_augmentations(cfg, network)
    of_the_run = f"run: {run.path}, {f'continues from {saved}' if saved else 'a new run'}"
    findings, found = brief(index)
    print(wrapped([*found, *_plan_lines(cfg, plan, index, network, alone.device.type), of_the_run]))
    _refuse_broken(cfg.data, findings)
    _disk_space(run.path, _bytes_on_disk(cfg, state.state_dict(alone)))


def _read_some_images(index: DataIndex) -> None:
    """Decode the first, the middle and the last image of each split."""
    for split in (index.train, index.val):
        for position in {0, len(split) // 2, len(split) - 1}:
            index.images.open(split.name(position)).pixels()


def _check_loggers(cfg: Config) -> None:
    own_loggers(cfg.log)
    wanted_uri(cfg)
    refuse_without_packages(cfg.log)
    refuse_without_matplotlib(cfg.log)


def _try_augmentations(cfg: Config, network: Network) -> None:
    """Apply ``augment.ops`` at every size of training."""
    colour = mean_colour(cfg.data, network)
    for size in training_sizes(cfg.augment, network.image_size).values():
        check_ops(cfg.augment.ops, Place.of(cfg.augment, size, colour, cfg.data.bits, network.channels))


def _plan_lines(cfg: Config, plan: Plan, index: DataIndex, network: Network, device: str) -> Iterator[str]:
    """Yield what the run is made of, and notes about it."""
    yield from describe_pixels(cfg, index, network)
    yield f"model: {cfg.model.name} at {in_pixels(network.image_size)}; {count_parameters(network.module)}"
    yield from plan.describe().splitlines()
    if cfg.train.micro_batch == "auto":
        yield "train.micro_batch: auto is found at the start; it is at most the micro-batch above"
    room = loader_needs(cfg, network, plan.world_size)
    yield describe_room(room)
    if warning := check_room(room):
        yield f"note: {warning}"
    yield from (f"note: {line}" for line in advise(cfg, plan, index.outputs, device))


def _bytes_on_disk(cfg: Config, state: dict[str, Any]) -> int:
    """Return about how much a run writes: optimizers create their moments in the first step."""
    states = cfg.checkpoint.keep + 1  # one is written before another one goes
    weights = 2 + sum(cfg.checkpoint.keep_best.values())  # best, last, and the best k by each metric
    return 3 * _bytes(state) * states + _bytes(state["model"]) * weights


def _refuse_broken(cfg: DataConfig, findings: Sequence[Finding]) -> None:
    broken = [row for row in findings if row.finding == "broken"]
    if broken and cfg.bad_images == "error":
        raise DataError(
            f"`data.bad_images` (error) ends the run at the first broken image, and {len(broken)} of those looked at are: "
            f"{broken[0].detail}; repair or remove them (`look --doctor` lists all, and `data.exclude` leaves them out), or "
            "let up to `data.max_bad_share` of the images be skipped with `data.bad_images=skip`"
        )


def _bytes(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def _disk_space(path: Path, needed: int) -> None:
    while not path.exists():
        path = path.parent
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"`run.output_dir`: {path} is not a folder that you can write to; choose another one")
    free = shutil.disk_usage(path).free
    print(f"disk: about {needed / 1e9:.1f} GB for checkpoints, {free / 1e9:.1f} GB free at {path}")
    if free < needed:
        raise ConfigError(
            f"`run.output_dir`: {path} has {free / 1e9:.1f} GB free, and the checkpoints of this run need about "
            f"{needed / 1e9:.1f} GB; lower `checkpoint.keep` and `checkpoint.keep_best`, or choose another folder"
        )
