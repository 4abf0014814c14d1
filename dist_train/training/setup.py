"""Build everything that training needs from a config and a group of ranks, in the order that it requires."""

import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dist_train.checkpoint.staged_files import publish
from dist_train.checkpoint.store import Checkpoints
from dist_train.checkpoint.stored import load, verify
from dist_train.config.choices import STRATEGIES
from dist_train.config.plan import Plan
from dist_train.config.planning import make_plan
from dist_train.config.rules.advice import advise
from dist_train.config.rules.gpu_reads import note_on_reads
from dist_train.config.rules.resume_keys import arithmetic
from dist_train.config.schema import Config
from dist_train.config.user_code import function_of
from dist_train.data.augment.frame import describe_evaluation, evaluation_frame
from dist_train.data.changed_files import save_listing
from dist_train.data.dataset import Batch
from dist_train.data.decode_rules import decide_rules, describe_rules, record_rules
from dist_train.data.index import DataIndex
from dist_train.data.pipeline import DataPipeline, open_data
from dist_train.data.stored.reuse import read_index
from dist_train.distributed.group import Dist, gpu_addresses
from dist_train.distributed.stragglers import ForwardClock
from dist_train.distributed.strategies.base import Strategy
from dist_train.learning.algorithms import set_algorithms
from dist_train.learning.clipping import clipping
from dist_train.model.backbones import GivenModel
from dist_train.model.build import build_model
from dist_train.model.lora.adapters import with_lora
from dist_train.model.network import Network
from dist_train.run.folder import RunDir
from dist_train.seeding import fold_in, reseed
from dist_train.system.files import write_json
from dist_train.system.machine.cores import ranks_per_node
from dist_train.system.machine.numa import Near, bind_rank
from dist_train.system.start import idle_tasks
from dist_train.training.cached.compute import timed, with_cached_features
from dist_train.training.cached.head_alone import with_head_alone
from dist_train.training.parts.build_state import build_state, train_more
from dist_train.training.parts.given import Given
from dist_train.training.parts.micro_batch import MicroBatch
from dist_train.training.parts.trial import try_model
from dist_train.training.report.first_look import refuse_without_matplotlib
from dist_train.training.report.run_page import refuse_without_packages
from dist_train.training.resume import as_it_began, find_checkpoint, holds_sizes, refuse_other_frozen_weights
from dist_train.training.state import TrainState
from dist_train.training.step import Stepper

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """All parts of a run, built, and restored if there is a checkpoint.

    Attributes:
        batch: the micro-batch of this start.
        compared: the values, by key, that must be the same in each start of the run.
    """

    cfg: Config
    plan: Plan
    group: Dist
    run: RunDir
    index: DataIndex
    network: Network
    stepper: Stepper
    state: TrainState
    data: DataPipeline
    checkpoints: Checkpoints
    given: Given
    batch: MicroBatch
    compared: dict[str, Any]


def build_setup(
    cfg: Config,
    group: Dist,
    given: Given = Given(),  # noqa: B008 - frozen
    batch: MicroBatch | None = None,
) -> Setup:
    """Build the parts of a run and restore its newest checkpoint.

    Args:
        given: objects passed from Python code, which replace those that the config names.
        batch: the micro-batch of this start, for a caller that needs to know it after an error.

    Raises:
        ConfigError, DataError: the config, the data, a weights file or a checkpoint is wrong. All ranks raise it.
    """
    run = RunDir.of(cfg.run)
    cfg = group.from_main(partial(as_it_began, cfg, run))
    strategy = _strategy(cfg, group)
    _stay_near_gpu(cfg, group)
    refuse_without_packages(cfg.log)
    refuse_without_matplotlib(cfg.log)
    sized = group.from_main(partial(holds_sizes, cfg, run))
    index = read_index(cfg.data, group, given.data, strict=False, kept=run.scan, sized=sized)
    compared = arithmetic(cfg) | given.names()
    checkpoints = Checkpoints(run.checkpoints, cfg.checkpoint.keep, run.metrics, cfg.checkpoint.memory)
    begun = make_plan(cfg, len(index.train), group.world_size)
    saved, plan = group.from_main(lambda: find_checkpoint(cfg, checkpoints, index, compared, begun))
    index = index.with_rules(group.from_main(lambda: decide_rules(cfg.data, index, run, resumed=saved is not None)))
    set_algorithms(cfg, group.device)
    # Only rank 0 reads initial weights: DDP broadcasts them to all ranks. A checkpoint replaces them, except LoRA's base.
    reads = group.is_main and (saved is None or cfg.model.lora is not None)
    network = build_network(cfg, index, group, load=reads, given=given.model)
    if cfg.train.cached_features:
        network = with_head_alone(network, cfg.model.name, group.device)
    batch = batch or MicroBatch(cfg, group.world_size)
    wrapped, state, plan = build_state(cfg, plan, strategy, network, index, given, batch)
    compared |= state.hashes()
    if saved is not None:
        group.from_main(lambda: refuse_other_frozen_weights(saved, compared, run))
        content = _read(saved, group, strategy.shares_saves)
        done = content["progress"]["step"]
        if any(step < done for step in plan.unfreeze_steps):
            wrapped = train_more(cfg, plan, network, index.outputs, state, done - 1)
        state.load_state_dict(content, group)
        log.info("resuming from %s", saved)
    data, batches = _batches(open_data(cfg, group, index, network), plan, state)
    forward = ForwardClock(group.device, group.world_size)
    clip = clipping(cfg.train.clip, strategy.clip, frozenset(map(network.module.get_parameter, network.head)))
    weights_N = data.loss_weights()
    parts = forward, clip, checkpoints.before_update, weights_N
    stepper = Stepper(cfg, plan, strategy, wrapped, data.augment(), batches, *parts)
    if group.is_main:
        _begin_folder(run, index, saved)
        _say(cfg, plan, index, network, group)
    return Setup(cfg, plan, group, run, index, network, stepper, state, data, checkpoints, given, batch, compared)


def _strategy(cfg: Config, group: Dist) -> Strategy:
    """Return the strategy of the run; refuse what it cannot do before anything is read."""
    strategy = build_strategy(group)
    strategy.refuse(cfg)
    strategy.gradient_dtype = cfg.distributed.gradient_dtype
    strategy.cpu_offload = cfg.distributed.strategy.cpu_offload
    strategy.one_graph = cfg.model.compiler is not None and not cfg.model.compiler.blocks
    return strategy


def _batches(data: DataPipeline, plan: Plan, state: TrainState) -> tuple[DataPipeline, Iterator[Batch]]:
    """Return the data of the run and its next micro-batches: images, or with ``train.cached_features`` their features."""
    if not data.cfg.train.cached_features:
        return data, data.training_batches(plan, state.progress.step)
    data, before = with_cached_features(data, state.precision)
    return data, timed(data.training_batches(plan, state.progress.step), plan, before)


def _stay_near_gpu(cfg: Config, group: Dist) -> None:
    """Bind this rank to the cores near its GPU. Call this before it allocates much memory or starts loader processes."""
    if not cfg.distributed.numa_binding or group.device.type != "cuda":
        return
    first, count = group.rank - group.local_rank, ranks_per_node()
    cores_of = group.gather_objects(sorted(os.sched_getaffinity(0)))[first : first + count]
    near = bind_rank(gpu_addresses(len(cores_of)), group.local_rank, cores_of)
    if group.is_main and isinstance(near, Near):
        log.info(
            "each rank stays on the cores near its GPU (distributed.numa_binding), of the %d cores that the ranks of a node may use; "
            "rank 0: %s, for %d rank(s)",
            len(cores_of[0]),
            near,
            near.ranks,
        )
    elif group.is_main and near:
        log.info("ranks keep the cores that they have (distributed.numa_binding): %s", near)


def build_strategy(group: Dist) -> Strategy:
    """Return the strategy that the group was joined with."""
    strategy: Strategy = function_of(STRATEGIES, group.strategy)(group)
    return strategy


def build_network(cfg: Config, index: DataIndex, group: Dist, load: bool, given: GivenModel | None = None) -> Network:
    """Build the model on this rank's device, freeze what the config says, try it on blank images, and add adapters.

    Args:
        load: read the initial weights.

    Raises:
        ConfigError: the model cannot be built, or cannot process images of this size.
    """
    with group.together():
        reseed(fold_in(cfg.run.seed, "init"), [group.device])
        network = build_model(cfg.model, index.outputs, cfg.data.image_size, load, given, cfg.data.channels)
    network.module.to(group.device)
    try_model(cfg, network, group.device, index.outputs, given is not None)
    if cfg.model.lora is not None:
        with group.together():
            network = with_lora(network, cfg.model.lora)
    return network


def _read(saved: Path, group: Dist, by_rows: bool) -> dict[str, Any]:
    """Return the content of a checkpoint, which one rank of every other node verifies first. Every rank must call it."""
    with group.together():
        if group.local_rank == 0 and not group.is_main:
            verify(saved, socket.gethostname())
    with group.together():  # a rank may read from a slower disk than the others
        content: dict[str, Any] = load(saved, by_rows)
    return content


def _say(cfg: Config, plan: Plan, index: DataIndex, network: Network, group: Dist) -> None:
    """Log how images are read and evaluated, and what is suspicious. For rank 0."""
    for note in index.notes:
        log.warning("%s", note)
    if index.images.rules.value_range is not None:
        log.info("%s", describe_rules(index.images.rules))
    log.info("%s", describe_evaluation(evaluation_frame(cfg, network), network))
    if note := note_on_reads(cfg, group.device.type):
        log.info("%s", note)
    if idle := idle_tasks():
        log.warning("%s", idle)
    for line in advise(cfg, plan, index.outputs, group.device.type):
        log.warning("%s", line)


def _begin_folder(run: RunDir, index: DataIndex, saved: Path | None) -> None:
    """Write the files that a run folder has from the start. For rank 0."""
    write_json(run.classes, index.classes)
    if saved is None:
        run.bad_images.unlink(missing_ok=True)  # from a start that saved nothing: these images may be readable now
        record_rules(run, index.images.rules)
    publish(run.path, None if saved is None else saved.name)
    if saved is None:
        run.listing.unlink(missing_ok=True)
    if index.has_sizes and not run.listing.exists():  # else ``recording`` writes it
        save_listing(run.listing, index)
