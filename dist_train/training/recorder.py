"""What is told of a run while it goes: rows at log lines and evaluations, and ``result.json``."""

import logging
import time
from dataclasses import asdict
from typing import Any

import torch

from dist_train.checkpoint.store import Beside
from dist_train.distributed.stragglers import CONSPICUOUS, straggler
from dist_train.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, ErrorKind, NonFiniteError
from dist_train.evaluation.metrics import Evaluation, better
from dist_train.evaluation.reports import pack_outcome
from dist_train.loggers.open import Sinks, open_sinks
from dist_train.model.weights import save_weights
from dist_train.run.result import Result, Status, read_result, write_result
from dist_train.system.files import read_json
from dist_train.training.data_wait import DataWait
from dist_train.training.setup import Setup
from dist_train.training.step_sums import StepMeans

log = logging.getLogger(__name__)

LONGEST_BAD_STREAK = 25
"""Steps in a row without a finite gradient that are still put up with; fp16 needs about 16 to find its scale."""


class Journal:
    """The story of one attempt. Ranks other than 0 take part in the arithmetic and write nothing."""

    def __init__(self, setup: Setup, attempt: int, hosts: list[str]) -> None:
        self._setup = setup
        self._attempt = attempt
        self._hosts = hosts
        self._suspects: set[int] = set()
        self._earlier = read_result(setup.run)
        self._began = time.monotonic()
        self._first_step = setup.state.progress.step
        self._row_began, self._row_step, self._row_waited = self._began, self._first_step, 0.0
        self._paused_s = 0.0
        self._data_wait = DataWait()
        if setup.group.is_main:
            self._sinks = open_sinks(
                setup.cfg,
                setup.run,
                setup.plan,
                setup.state.progress.step,
                setup.state.progress.evaluated,
                _facts(setup, attempt),
            )
        else:
            self._sinks = Sinks([])
        self.write("running")

    def tick(self) -> None:
        """One more step is done."""
        self._sinks.tick()

    def log_steps(self) -> None:
        """A row of the means since the last one. Waits for the device; every rank must call it.

        Raises:
            NonFiniteError: see ``check_finite``.
        """
        setup, progress = self._setup, self._setup.state.progress
        means = self.check_finite()
        now = time.monotonic()
        elapsed, steps = now - self._row_began, progress.step - self._row_step
        waited = setup.stepper.waited_s - self._row_waited
        row: dict[str, Any] = {
            "loss": means.loss,
            "lr": setup.stepper.lr(progress.step - 1),
            "grad_norm": means.grad_norm,
            **means.extras,
        }
        if steps:
            row |= {"images_per_s": steps * setup.plan.global_batch / elapsed, "data_wait": waited / elapsed}
            row |= self._pace(waited, elapsed)
            longest = row.get("data_wait_max", row["data_wait"]) * elapsed
            if self._data_wait.add(longest, elapsed, steps, setup.cfg) and setup.group.is_main:
                log.warning(self._data_wait.advice)
        if setup.group.device.type == "cuda":
            row["gpu_mem_gb"] = torch.cuda.max_memory_allocated(setup.group.device) / 2**30
        if setup.state.precision.scales:
            row["loss_scale"] = setup.state.precision.scaler.get_scale()
        if setup.state.precision.skips:
            progress.skipped += means.bad_steps
            row["skipped_steps"] = progress.skipped
        setup.state.sums.clear()
        self._row("train", row)
        self._row_began, self._row_step, self._row_waited = now, progress.step, setup.stepper.waited_s

    def _pace(self, waited: float, elapsed: float) -> dict[str, float]:
        """The straggler's columns, where there are several ranks. Every rank must call it."""
        group, forward = self._setup.group, self._setup.stepper.forward.take()
        if group.world_size == 1:
            return {}
        pace_W2 = group.stack(torch.tensor([waited, forward], device=group.device)).tolist()
        columns = straggler([row[0] for row in pace_W2], [row[1] for row in pace_W2], elapsed)
        rank, ratio = int(columns["slowest_rank"]), columns["slowest_ratio"]
        if group.is_main and ratio > CONSPICUOUS and rank not in self._suspects:
            self._suspects.add(rank)
            log.warning("rank %d on %s takes %.1f times as long as the others", rank, self._hosts[rank], ratio)
        return columns

    def check_finite(self) -> StepMeans:
        """The means since the last row, if the steps they come from were sound. Every rank must call it.

        Raises:
            NonFiniteError: a step was not finite and none may be skipped, or too many in a row were.
        """
        setup, step = self._setup, self._setup.state.progress.step
        means = setup.state.sums.read(setup.group)
        if means.longest_streak > LONGEST_BAD_STREAK or (means.bad_steps and not setup.state.precision.skips):
            raise NonFiniteError(
                f"the loss or its gradient was not finite in {means.bad_steps} of the steps {self._row_step + 1} to {step} "
                f"(learning rate {setup.stepper.lr(step - 1):.3g}, mean gradient norm of the others {means.grad_norm:.3g}); "
                "lower `optim.lr`, set `train.clip_grad`, lengthen `schedule.warmup_epochs`, or use amp_bf16 for amp_fp16"
            )
        return means

    def note_evaluation(self, found: Evaluation, seconds: float) -> Beside | None:
        """A row of validation scores; keeps count of the best.

        Returns:
            If this is the best evaluation so far, what this rank publishes of it with the checkpoint of this step.
        """
        setup, progress = self._setup, self._setup.state.progress
        scores = found.scores
        metric, stopping = setup.cfg.eval.metric, setup.cfg.train.early_stopping
        progress.evaluated = progress.step
        progress.last = {"step": progress.step, **scores}
        gain = progress.best is None or better(metric, scores[metric], progress.best[metric])
        by = stopping.min_delta if stopping else 0.0
        if progress.to_beat is None or better(metric, scores[metric], progress.to_beat, by):
            progress.to_beat, progress.evaluations_without_gain = scores[metric], 0
        else:
            progress.evaluations_without_gain += 1
        if gain:
            progress.best = progress.last
        self._row("val", {**scores, "seconds": seconds})
        self._row_began += seconds
        self._paused_s += seconds
        self.write("running")
        return self._best(found) if gain else None

    def _best(self, found: Evaluation) -> Beside:
        setup = self._setup
        if not setup.group.is_main:
            return {}
        return {
            setup.run.best: setup.state.evaluated_part,
            setup.run.predictions: pack_outcome(found, setup.index, setup.state.progress.step),
        }

    def _row(self, split: str, values: dict[str, Any]) -> None:
        step = self._setup.state.progress.step
        self._sinks.row({"step": step, "epoch": round(self._setup.plan.epoch(step), 4), "split": split, **values})

    def paused(self, seconds: float) -> None:
        """Take time that was not spent on steps out of images/s."""
        self._row_began += seconds
        self._paused_s += seconds

    def write(self, status: Status, error: ErrorKind | None = None, message: str | None = None) -> None:
        """Bring ``result.json`` up to date."""
        setup, progress = self._setup, self._setup.state.progress
        if not setup.group.is_main or (status == "running" and self._another_rank_failed()):
            return
        wall = time.monotonic() - self._began
        steps = progress.step - self._first_step
        pace: dict[str, Any] = {key: self._earlier.get(key) for key in ("images_per_s", "data_wait", "advice")}
        if steps:
            pace["images_per_s"] = steps * setup.plan.global_batch / (wall - self._paused_s)
            pace |= {"data_wait": self._data_wait.share, "advice": self._data_wait.advice}
        write_result(
            setup.run,
            Result(
                status=status,
                attempt=self._attempt,
                step=progress.step,
                total_steps=setup.plan.total_steps,
                best=progress.best,
                last=progress.last,
                weights="raw" if setup.state.evaluated_part == "model" else "ema",
                wall_s=round(wall, 3),
                **pace,
                error=error,
                message=message,
            ),
        )

    def _another_rank_failed(self) -> bool:
        """Whether the cause of a failure that this rank is yet to meet stands in ``result.json``."""
        known = read_result(self._setup.run)
        return known.get("status") == "failed" and known.get("attempt") == self._attempt

    def close(self, status: Status) -> None:
        """The end of the attempt, well or otherwise planned: weights, ``result.json``, sinks."""
        setup = self._setup
        if status == "done" and setup.group.is_main:
            save_weights(setup.run.last, setup.state.evaluated_model.state_dict())
        self.write(status)
        self._close_sinks(status)

    def abandon(self) -> None:
        """Close the sinks after an error. After ``close`` it does nothing."""
        self._close_sinks("failed")

    def _close_sinks(self, status: Status) -> None:
        sinks, self._sinks = self._sinks, Sinks([])
        sinks.close(status, {"done": EXIT_DONE, "stopped": EXIT_STOPPED}.get(status, EXIT_FAILED))


def _facts(setup: Setup, attempt: int) -> dict[str, Any]:
    """What identifies a run beside its config, and what this attempt runs on."""
    parameters = list(setup.state.model.parameters())
    provenance = read_json(setup.run.provenance, default={}).get("attempts", [{}])[-1]
    return {
        "attempt": attempt,
        "plan": asdict(setup.plan),
        "dataset": {
            "fingerprint": setup.index.fingerprint[:16],
            "train_images": len(setup.index.train),
            "val_images": len(setup.index.val),
            "classes": setup.index.outputs,
        },
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trainable_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        **{key: provenance.get(key) for key in ("git", "slurm", "hosts", "world_size", "versions")},
    }
