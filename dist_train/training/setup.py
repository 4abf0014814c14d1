"""From a config and a group of ranks to everything that training needs, in the order in which it must happen."""

import logging
import os
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader

from dist_train.checkpoint.staged_files import publish
from dist_train.checkpoint.store import Checkpoints, load
from dist_train.config import Config
from dist_train.config.advice import advise
from dist_train.config.plan import Plan, make_plan
from dist_train.data.augment.on_device import DeviceAugment, Normalise
from dist_train.data.bad_images import BadImages
from dist_train.data.cache import open_cache
from dist_train.data.changed_files import save_listing
from dist_train.data.dataset import Batch
from dist_train.data.index import DataIndex, scan
from dist_train.data.loader import evaluation_loader, training_batches
from dist_train.distributed.ddp import settle_buckets
from dist_train.distributed.group import Dist
from dist_train.distributed.stragglers import ForwardClock
from dist_train.distributed.sync_bn import synchronise
from dist_train.errors import ConfigError
from dist_train.learning.ema import Ema
from dist_train.learning.losses import build_loss
from dist_train.learning.optimizer import build_optimizer, replace_optimizer
from dist_train.learning.precision import Precision
from dist_train.model.backbones import is_own
from dist_train.model.build import Network, build_model
from dist_train.model.freeze import describe, train_mode, unfreeze
from dist_train.run.folder import RunDir
from dist_train.seeding import fold_in, reseed
from dist_train.system.files import write_json
from dist_train.training.resume import find_checkpoint
from dist_train.training.state import Progress, TrainState
from dist_train.training.step import Stepper
from dist_train.training.step_sums import StepSums

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """All parts of a run, built and, where there was a checkpoint, restored."""

    cfg: Config
    plan: Plan
    group: Dist
    run: RunDir
    index: DataIndex
    network: Network
    stepper: Stepper
    state: TrainState
    normalise: Normalise
    checkpoints: Checkpoints
    validation: DataLoader[Batch]
    bad_images: BadImages


def build_setup(cfg: Config, group: Dist) -> Setup:
    """Build the parts of a run and restore its newest checkpoint.

    Raises:
        ConfigError, DataError: the config, the data, a weights file or a checkpoint is wrong; on all ranks alike.
    """
    run = RunDir.of(cfg)
    index = group.from_main(lambda: scan(cfg.data))
    plan = make_plan(cfg, len(index.train), group.world_size)
    checkpoints = Checkpoints(run.checkpoints, cfg.checkpoint.keep, run.metrics)
    saved = group.from_main(lambda: find_checkpoint(cfg, checkpoints, index))
    set_algorithms(cfg, group.device)
    # Only rank 0 reads initial weights: DDP hands its weights to all ranks, and a checkpoint replaces them.
    network = build_network(cfg, index, group, load=saved is None and group.is_main)
    wrapped, state = build_state(cfg, plan, group, network)
    if saved is not None:
        content = load(saved)
        if plan.unfreeze_step is not None and content["progress"]["step"] > plan.unfreeze_step:
            wrapped = train_everything(cfg, plan, group, network, state)
        state.load_state_dict(content, group)
        log.info("resuming from %s", saved)
    normalise = Normalise(cfg.data, network, group.device, cfg.model.channels_last)
    bad_images = BadImages(cfg.data, index)
    cache = open_cache(cfg.data, index, group, bad_images) if cfg.augment.device else None
    stepper = Stepper(
        cfg=cfg,
        plan=plan,
        group=group,
        wrapped=wrapped,
        augment=DeviceAugment(cfg.augment, cfg.loss, normalise, index, group.device, network.image_size),
        loss=build_loss(cfg.loss, index.classes, group, network.module),
        batches=training_batches(cfg, plan, group, index, network, bad_images, state.progress.step, cache),
        forward=ForwardClock(group.device, group.world_size),
    )
    if group.is_main:
        write_json(run.classes, index.classes)
        if saved is None:
            run.bad_images.unlink(missing_ok=True)  # of a run that never saved: its images may be whole now
        publish(run.path, None if saved is None else saved.name)
        if saved is None or not run.listing.exists():
            save_listing(run.listing, index)
        for line in advise(cfg, plan, index.outputs):
            log.warning("%s", line)
    validation = evaluation_loader(cfg, group, index, network, bad_images, cache)
    return Setup(cfg, plan, group, run, index, network, stepper, state, normalise, checkpoints, validation, bad_images)


def set_algorithms(cfg: Config, device: torch.device) -> None:
    """Choose between fast and bit-exact algorithms, before the first matrix product."""
    if cfg.run.deterministic and device.type == "cuda":
        # cuBLAS chooses its algorithm by the workspace it gets; without this torch refuses matrix products.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(cfg.run.deterministic, warn_only=False)
    torch.backends.cudnn.benchmark = not cfg.run.deterministic


def build_network(cfg: Config, index: DataIndex, group: Dist, load: bool) -> Network:
    """The model on this rank's device, frozen as the config says, and tried on one blank image.

    Raises:
        ConfigError: it cannot be built, or cannot take images of this size.
    """
    with group.together():
        reseed(fold_in(cfg.run.seed, "init"), group)
        network = build_model(cfg.model, index.outputs, cfg.data.image_size, load)
    network.module.to(group.device)
    _try(cfg, network, group.device, index.outputs)
    return network


@torch.no_grad()
def _try(cfg: Config, network: Network, device: torch.device, outputs: int) -> None:
    """Blank images through the model, as in training and as in evaluation; it is left as it was."""
    module, size, name = network.module, network.image_size, cfg.model.name
    images = torch.zeros((min(2, cfg.train.micro_batch or 2), 3, size, size), device=device)
    # cuDNN need not look for the fastest way to take two images.
    flags = {"enabled": True, "benchmark": False, "deterministic": cfg.run.deterministic, "allow_tf32": cfg.train.tf32}
    try:
        with torch.backends.cudnn.flags(**flags):
            buffers = [buffer.clone() for buffer in module.buffers()]
            train_mode(module)
            module(images)
            for buffer, before in zip(module.buffers(), buffers, strict=True):
                buffer.copy_(before)
            found = module.eval()(images[:1])
    except (AssertionError, RuntimeError, ValueError) as error:
        if is_own(name) or isinstance(error, torch.OutOfMemoryError) or "deterministic" in str(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"`data.image_size` ({size}): {name} cannot take images of {size} x {size} px: {reason}; choose another "
            "size, or leave it out for the model's own"
        ) from error
    if not isinstance(found, torch.Tensor) or found.shape != (1, outputs):
        kind = f"a tensor of shape {list(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise ConfigError(
            f"`model.name` ({name}) returns {kind} for one image in eval mode, and the data needs [1, {outputs}]"
        )


def build_state(cfg: Config, plan: Plan, group: Dist, network: Network) -> tuple[nn.Module, TrainState]:
    """The module to train through, and the state at step 0."""
    model = network.module
    if cfg.model.sync_bn and group.strategy == "dp":
        raise ConfigError(
            "`model.sync_bn` (true) does not work with DataParallel; start with torchrun, or set it to false"
        )
    if cfg.model.sync_bn and group.world_size > 1:
        synchronise(model, group)
    precision = Precision(cfg.train, group.device)
    if cfg.train.precision == "fp16" and (group.strategy == "dp" or cfg.model.compile):
        other = "DataParallel" if group.strategy == "dp" else "`model.compile`"
        raise ConfigError(f"`train.precision` (fp16) does not work with {other}; use amp_fp16")
    if cfg.model.compile and group.strategy == "dp":  # every replica would compute with the first one's weights
        raise ConfigError(
            "`model.compile` (true) does not work with DataParallel; start with torchrun, or set it to false"
        )
    wrapped = group.wrap(precision.to_train(model, in_threads=group.strategy == "dp"))
    ema = Ema(model, cfg.train.ema) if cfg.train.ema is not None else None
    if cfg.model.compile:
        model.compile()
    _settle(cfg, plan, group, network, precision, wrapped)
    optimizer = build_optimizer(cfg.optim, model, network.head)
    published = model if ema is None or cfg.eval.weights == "raw" else ema.module
    return wrapped, TrainState(model, optimizer, ema, published, precision, StepSums(group.device), Progress())


def train_everything(cfg: Config, plan: Plan, group: Dist, network: Network, state: TrainState) -> nn.Module:
    """Unfreeze: from here on the optimizer holds every parameter, with the moments that it had so far.

    Returns:
        The new module to train through: DDP knows only the parameters that train when it wraps.
    """
    unfreeze(network.module, network.frozen)
    wrapped = group.wrap(state.precision.to_train(state.model, in_threads=group.strategy == "dp"))
    _settle(cfg, plan, group, network, state.precision, wrapped)
    state.optimizer = replace_optimizer(state.optimizer, build_optimizer(cfg.optim, state.model, network.head))
    log.info("unfrozen: %s", describe(network.module))
    return wrapped


def _settle(cfg: Config, plan: Plan, group: Dist, network: Network, precision: Precision, wrapped: nn.Module) -> None:
    train_mode(network.module)
    size = network.image_size
    images = torch.zeros((plan.micro_batch, 3, size, size), device=group.device)
    if cfg.model.channels_last:  # another layout would be compiled, and its convolutions tried, for this alone
        images = images.contiguous(memory_format=torch.channels_last)
    with precision.autocast():
        settle_buckets(wrapped, images)
