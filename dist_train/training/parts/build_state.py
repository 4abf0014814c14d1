"""The objective, the module to train through, and the state at step 0."""

import logging
import math

from torch import nn

from dist_train.checkpoint.format import lay_out
from dist_train.config.choices import DISTILLATIONS
from dist_train.config.plan import Plan
from dist_train.config.schema import Config
from dist_train.config.user_code import function_of
from dist_train.data.augment.size_schedule import training_sizes
from dist_train.data.index import DataIndex
from dist_train.data.report.notes import class_counts
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.base import Strategy
from dist_train.distributed.sync_bn import synchronise
from dist_train.hooks.open import open_hooks
from dist_train.learning.ema import Ema
from dist_train.learning.losses import build_loss
from dist_train.learning.objective import Parts, Supervised, TrainingPass, build_objective
from dist_train.learning.optimizers.build import build_optimizer, replace_optimizer
from dist_train.learning.own_parts import OwnParts
from dist_train.learning.precision import Precision
from dist_train.learning.rank_buffers import RankBuffers
from dist_train.learning.step_buffers import StepBuffers
from dist_train.model.cells import own_memory
from dist_train.model.freeze import count_parameters, train_mode, unfreeze
from dist_train.model.lora.adapters import without_effect
from dist_train.model.network import Network, statistics
from dist_train.seeding import fold_in, reseed
from dist_train.training.parts.compiled import compile_model, repeated_blocks
from dist_train.training.parts.frozen_moves import moves_though_frozen, note_of_moves
from dist_train.training.parts.given import Given, has_own_code, refuse_combinations
from dist_train.training.parts.micro_batch import MicroBatch
from dist_train.training.parts.single_values import refuse_single_values
from dist_train.training.parts.trial import TRIAL_IMAGES, blank_batch, left_as_found, trial_passes, try_training
from dist_train.training.parts.unused import note_of_unused, plain_name, unused_always, unused_in_a_step
from dist_train.training.state import Progress, TrainState
from dist_train.training.step_sums import StepSums

log = logging.getLogger(__name__)


def build_state(
    cfg: Config,
    plan: Plan,
    strategy: Strategy,
    network: Network,
    index: DataIndex,
    given: Given,
    batch: MicroBatch | None = None,
) -> tuple[nn.Module, TrainState, Plan]:
    """Return the module to train through, the state at step 0, and the plan with its final micro-batch.

    Args:
        batch: finds the micro-batch; None keeps that of the plan.

    Raises:
        ConfigError: the objective, the loss or the optimizer cannot be built.
    """
    group, model = strategy.group, network.module
    precision = Precision(cfg.train, group.device)
    objective = _objective(cfg, strategy, network, index, precision, given)
    own_memory(objective)
    if batch is not None:  # before SyncBN: a rank may fail alone
        plan = batch.planned(plan, group, network, objective, index.outputs)
    if cfg.model.sync_bn and group.world_size > 1:
        synchronise(objective, group)
    own = OwnParts(objective, model)
    ema = None if cfg.train.ema is None else Ema(model, shared=network.base, **dict(cfg.train.ema))
    evaluated = model if ema is None or cfg.eval.weights == "raw" else ema.module
    for module in [model] if ema is None else [model, ema.module]:
        strategy.shard(module, repeated_blocks(module))
    if cfg.model.compiler:  # after the EMA has copied the model: a compiled module cannot be copied
        for module in {model, evaluated}:
            compile_model(module, cfg.model.compiler)
    optimizer = build_optimizer(cfg.optim, model, network.head, own.training(), network.later)
    with group.together():
        hooks = open_hooks(cfg.hooks, given.hooks)
    state = TrainState(
        model=model,
        objective=objective,
        own=own,
        strategy=strategy,
        optimizer=optimizer,
        ema=ema,
        evaluated_model=evaluated,
        precision=precision,
        buffers=StepBuffers(objective, own.changing()),
        rank_buffers=RankBuffers(objective, has_own_code(cfg, given)),
        sums=StepSums(group.device),
        progress=Progress(),
        hooks=hooks,
        base=network.base,
    )
    lay_out(state.state_dict(Dist.alone(group.device)))  # what no checkpoint can hold is an error now
    wrapped = _wrapped(cfg, plan, network, index.outputs, state)
    few = blank_batch(cfg, network, index.outputs, min(TRIAL_IMAGES, plan.micro_batch), group.device)
    moving = moves_though_frozen(cfg, network, TrainingPass(objective, precision.autocast), *few)
    if moving and group.is_main:
        log.warning("%s", note_of_moves(moving, cfg))
    return wrapped, state, plan


def _objective(
    cfg: Config, strategy: Strategy, network: Network, index: DataIndex, precision: Precision, given: Given
) -> nn.Module:
    """Return the user's objective, else the one of the loss, with a teacher or without, on this rank's device."""
    group, model = strategy.group, network.module
    refuse_combinations(cfg, given)
    with group.together():
        if given.objective or cfg.loss.objective:
            reseed(fold_in(cfg.run.seed, "objective"), [group.device])
            return build_objective(cfg.loss, given.objective, model).to(group.device)
        counts = None if index.task == "regression" else class_counts(index.outputs, index.train.labels)
        loss = build_loss(cfg.loss, index.classes, counts, group, model, given.loss)
        trained = network.of_batches(precision.to_train(model))
        if cfg.loss.distill is None:
            return Supervised(trained, loss, precision.autocast)
    images = statistics(cfg.data, network)
    parts = Parts(cfg.loss, model, trained, loss, precision.autocast, index.classes, images, group)
    objective: nn.Module = function_of(DISTILLATIONS, cfg.loss.distill.kind)(parts)
    return objective


def train_more(cfg: Config, plan: Plan, network: Network, outputs: int, state: TrainState, until: int) -> nn.Module:
    """Unfreeze all stages up to step ``until``, and build an optimizer over every parameter that keeps the moments it has.

    Returns:
        The new module to train through: DDP reduces only the parameters that required a gradient when it wrapped them.
    """
    state.strategy.rest(network.module)
    for stage, step in zip(network.stages, plan.unfreeze_steps, strict=True):
        if step <= until:
            unfreeze(network.module, stage)
    wrapped = _wrapped(cfg, plan, network, outputs, state)
    optimizer = build_optimizer(cfg.optim, state.model, network.head, state.own.training(), network.later)
    state.optimizer = replace_optimizer(state.optimizer, optimizer)
    log.info("unfrozen: %s", count_parameters(network.module))
    return wrapped


def _wrapped(cfg: Config, plan: Plan, network: Network, outputs: int, state: TrainState) -> nn.Module:
    """Return the module to train through, ready for its first step."""
    strategy, device = state.strategy, state.strategy.group.device
    module = TrainingPass(state.objective, state.precision.autocast)
    train_mode(state.objective)
    all_used = _uses_every_parameter(cfg, plan, network, outputs, state, module)
    wrapped = strategy.wrap(module, all_used and cfg.distributed.unused_parameters == "error")
    # What is compiled is compiled here, for the size of the micro-batch; else two images do as well, and take less time.
    compiled = cfg.model.compiler is not None
    count = plan.micro_batch if compiled else min(TRIAL_IMAGES, plan.micro_batch)
    changing = state.own.changing()
    with left_as_found(module, device, changing) if compiled else trial_passes(cfg, device, module, changing):
        strategy.settle(wrapped, *blank_batch(cfg, network, outputs, count, device))
        unused = strategy.unused(wrapped)
    if unused:
        raise unused_in_a_step(unused, strategy.group.rank)
    state.buffers.keep()
    return wrapped


def _uses_every_parameter(
    cfg: Config, plan: Plan, network: Network, outputs: int, state: TrainState, module: TrainingPass
) -> bool:
    """Try a step with at most two images. Return whether the loss depends on every trainable parameter.

    A user's objective may leave parameters unused, such as the head, even if `distributed.unused_parameters` is error.

    Raises:
        ConfigError: the step fails, or leaves parameters unused that must not be.
    """
    group = state.strategy.group
    smallest = min(training_sizes(cfg.augment, network.image_size).values(), key=math.prod)
    refuse_single_values(cfg, plan, module, *blank_batch(cfg, network, outputs, TRIAL_IMAGES, group.device, smallest))
    few = blank_batch(cfg, network, outputs, min(TRIAL_IMAGES, plan.micro_batch), group.device)
    mine = try_training(cfg, module, *few, state.own.changing())
    unused = list(dict.fromkeys(name for names in group.gather_objects(mine) for name in names))
    if error := without_effect([plain_name(name) for name in unused]):
        raise error
    if unused and isinstance(state.objective, Supervised) and cfg.distributed.unused_parameters == "error":
        if plan.world_size > 1:
            raise unused_always(unused)
        log.warning("%s", note_of_unused(unused))
    return not unused
