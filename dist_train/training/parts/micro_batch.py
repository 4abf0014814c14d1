"""``train.micro_batch: auto``: the largest micro-batch that fits every rank, found before training and kept in the run folder.

Every start with as many ranks uses the number that was found, so that a resume is exact. After an error of memory the next
start uses a smaller one, and ``provenance.json`` says what that changes.
"""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dist_train.config.choices import LOSSES
from dist_train.config.plan import Plan
from dist_train.data.augment.size_schedule import largest_size
from dist_train.distributed.group import Dist
from dist_train.errors import TooBigError
from dist_train.learning.objective import TrainingPass
from dist_train.learning.optimizers.build import build_optimizer
from dist_train.learning.own_parts import OwnParts
from dist_train.learning.precision import Precision
from dist_train.model.freeze import train_mode
from dist_train.model.network import Network
from dist_train.run.folder import RunDir
from dist_train.system.files import read_json, write_json
from dist_train.training.parts.trial import blank_batch, left_as_found

if TYPE_CHECKING:
    from dist_train.config.schema import Config

log = logging.getLogger(__name__)

MOST_OF_A_GPU = 0.95
"""The share of a GPU's memory that a trial may take: kernels that are chosen later may need a little more."""
STEPS = 2
"""Of a trial: the second one has the moments of the optimizer."""
OTHER = (
    "BatchNorm statistics are over {images} images, Mixup pairs and dropout masks differ, and sums round differently"
)


class MicroBatch:
    """The micro-batch of one start.

    Attributes:
        used: images per forward pass and rank; None before the plan is made.
    """

    def __init__(self, cfg: "Config", world_size: int) -> None:
        self._cfg, self._run, self._world_size = cfg, RunDir.of(cfg.run), world_size
        self._auto = cfg.train.micro_batch == "auto"
        self._trains_batch_norm = False
        self.used: int | None = None

    def planned(self, plan: Plan, group: Dist, network: Network, objective: nn.Module, outputs: int) -> Plan:
        """Return the plan with the micro-batch that the run folder holds for this number of ranks, or that a trial finds.

        Every rank must call it. All state is left as it was.

        Raises:
            TooBigError: not even the smallest one fits.
        """
        if self._auto:
            found = group.from_main(self._recorded)
            if found is None:
                found = self._found_by_trial(plan, group, network, objective, outputs)
                group.from_main(lambda: self._record(found, f"the largest that fits {group.device.type}"))
            plan = plan.with_micro_batch(found)
        self._trains_batch_norm = any(isinstance(part, _BatchNorm) and part.training for part in objective.modules())
        self.used = plan.micro_batch
        return plan

    def facts(self) -> dict[str, Any]:
        """Return what ``provenance.json`` records of this start: the micro-batch and why it was chosen; empty unless it is auto."""
        newest = self._newest() if self._auto else None
        return {"micro_batch": newest} if newest else {}

    def _recorded(self) -> int | None:
        found = (self._newest() or {}).get("micro_batch")
        return found if isinstance(found, int) and found in self._sizes() else None

    def _newest(self) -> dict[str, Any] | None:
        """Return what was chosen last for this number of ranks and this global batch."""
        return next((entry for entry in reversed(_entries(self._run)) if self._concerns(entry)), None)

    def _concerns(self, entry: dict[str, Any]) -> bool:
        return (entry.get("world_size"), entry.get("global_batch")) == (self._world_size, self._cfg.train.global_batch)

    def _record(self, images: int, why: str) -> None:
        entry = {
            "micro_batch": images,
            "world_size": self._world_size,
            "global_batch": self._cfg.train.global_batch,
            "why": why,
        }
        write_json(self._run.micro_batch, [*_entries(self._run), entry])
        log.info("train.micro_batch: auto is %d: %s", images, why)

    def _sizes(self) -> list[int]:
        """Return the possible micro-batches, the largest first."""
        share = self._cfg.train.global_batch // self._world_size
        if LOSSES.find(self._cfg.loss.name).whole_batch:
            return [share]
        in_pairs = self._cfg.augment.mixup or self._cfg.augment.cutmix
        return [size for size in range(share, 0, -1) if share % size == 0 and not (in_pairs and size % 2)]

    def _found_by_trial(self, plan: Plan, group: Dist, network: Network, objective: nn.Module, outputs: int) -> int:
        """Return the largest size that fits on all ranks. Each rank tries by itself: a rank that fails would leave others waiting."""
        mine = 0
        with group.together():
            trial = _Trial(self._cfg, network, objective, group.device, outputs)
            mine = next((size for size in self._sizes() if trial.fits(size)), 0)
        found = min(group.gather_objects(mine))
        if not found:
            raise TooBigError(
                f"out of memory with {self._sizes()[-1]} image(s) on a rank, the fewest that `train.global_batch` "
                f"({plan.global_batch}) allows; use model.grad_checkpointing=true, train.precision=amp_bf16, a smaller "
                "data.image_size, or another model"
            )
        return found

    def lowered(self, step: int) -> int | None:
        """Record a smaller micro-batch for the next start, after an error of memory at ``step``. Any rank may call it.

        Returns:
            The micro-batch; None if the next start must not or cannot use a smaller one.
        """
        if not self._auto or self.used is None or self.forbidden():
            return None
        smaller = next((size for size in self._sizes() if size <= self.used // 2), None)
        if smaller is not None:
            what = OTHER.format(images=smaller)
            self._record(smaller, f"out of memory with {self.used} at step {step}: from then on {what}")
        return smaller

    def forbidden(self) -> bool:
        """Return whether a smaller micro-batch would change a BatchNorm that trains, and the config does not allow it."""
        return self._auto and self._trains_batch_norm and not self._cfg.train.micro_batch_may_change


def _entries(run: RunDir) -> list[dict[str, Any]]:
    """Return what was chosen so far, the oldest first."""
    return [entry for entry in read_json(run.micro_batch, default=[]) if isinstance(entry, dict)]


class _Trial:
    """Steps on blank images: forward, backward and optimizer, with memory for all that training holds on the device."""

    def __init__(
        self, cfg: "Config", network: Network, objective: nn.Module, device: torch.device, outputs: int
    ) -> None:
        self._cfg, self._network, self._device, self._outputs = cfg, network, device, outputs
        self._objective = objective
        self._precision = Precision(cfg.train, device)

    def fits(self, images: int) -> bool:
        """Return whether steps with so many images fit into memory."""
        try:
            with self._all_put_back():
                self._steps(images)
            return self._share_used() < MOST_OF_A_GPU
        except Exception as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            log.info("a step with %d images per rank does not fit into memory", images)
            return False
        finally:
            self._free()

    def _steps(self, images: int) -> None:
        model, own = self._network.module, OwnParts(self._objective, self._network.module)
        average = [torch.empty_like(value) for value in model.state_dict().values()] if self._cfg.train.ema else []
        optimizer = build_optimizer(self._cfg.optim, model, self._network.head, own.training())
        module = TrainingPass(self._objective, self._precision.autocast)
        size = largest_size(self._cfg.augment, self._network.image_size)
        batch = blank_batch(self._cfg, self._network, self._outputs, images, self._device, size)
        for _ in range(STEPS):
            module(*batch)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
        del average

    @contextmanager
    def _all_put_back(self) -> Iterator[None]:
        """Restore weights, buffers and generators. The copies of the weights are on the host."""
        train_mode(self._objective)
        trained: list[Tensor] = [p for p in self._objective.parameters() if p.requires_grad]
        before = [tensor.detach().to("cpu", copy=True) for tensor in trained]
        own = OwnParts(self._objective, self._network.module)
        with left_as_found(self._objective, self._device, own.changing()):
            try:
                yield
            finally:
                with torch.no_grad():
                    for tensor, value in zip(trained, before, strict=True):
                        tensor.copy_(value)

    def _share_used(self) -> float:
        if self._device.type != "cuda":
            return 0.0
        total = torch.cuda.get_device_properties(self._device).total_memory
        return torch.cuda.max_memory_reserved(self._device) / total

    def _free(self) -> None:
        gc.collect()  # frames of an error of memory hold the tensors of the step
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
