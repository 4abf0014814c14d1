"""Record a running attempt: rows of metrics at log lines and evaluations, and ``result.json``."""

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from dist_train.checkpoint.format import save_weights
from dist_train.config.types import in_pixels
from dist_train.distributed.stragglers import conspicuous, straggler
from dist_train.evaluation.better import why_undefined
from dist_train.evaluation.metrics import Evaluation
from dist_train.evaluation.reports import PICTURED, confusion_image
from dist_train.loggers.base import Facts, Image, Logger
from dist_train.model.freeze import count_parameters
from dist_train.run.code_watch import CodeWatch, note_changed_code
from dist_train.run.metrics_file import live_step
from dist_train.run.result import Result, Status, read_result, write_result
from dist_train.system.terminal import digits
from dist_train.training.parts.kept_weights import KeptWeights
from dist_train.training.report import messages
from dist_train.training.report.data_wait import DataWait
from dist_train.training.report.facts import details
from dist_train.training.report.first_look import first_look
from dist_train.training.report.machine import Machine
from dist_train.training.report.profile import Profile
from dist_train.training.report.run_page import write_page
from dist_train.training.report.step_clock import Lap, StepClock
from dist_train.training.step_sums import StepMeans

if TYPE_CHECKING:
    from dist_train.training.setup import Setup

log = logging.getLogger(__name__)

CODE_LIMIT_S = 2.0
"""How long the end of a run waits for the file system to say whether the code has changed."""


class Recorder:
    """Record one attempt. Other ranks than 0 take part in the collectives but write nothing.

    Args:
        attempt: the number of the attempt, from 1.
        hosts: the host name of every rank.
        open_loggers: starts all loggers of rank 0 and returns one logger for them.
    """

    def __init__(self, setup: "Setup", attempt: int, hosts: list[str], open_loggers: Callable[[Facts], Logger]) -> None:
        self._setup, self._attempt, self._hosts = setup, attempt, hosts
        self._suspects: set[int] = set()
        self._warned = False
        self._earlier = read_result(setup.run)
        self._clock = StepClock(setup.state.progress.step)
        self._data_wait = DataWait()
        self._profile = Profile(setup.cfg.log.profile, setup.run.profile, setup.group.rank, setup.group.device)
        self._kept = KeptWeights(setup.run, setup.cfg.checkpoint.keep_best, setup.state.kept)
        if setup.group.is_main:
            recomputes = setup.cfg.model.grad_checkpointing
            self._machine = Machine(setup.network, setup.group.device, setup.group.world_size, recomputes)
            log.info(_beginning(setup, hosts))  # before the loggers remove the rows after the checkpoint
        picture = self._first_look()
        self._loggers = self._open(open_loggers)
        if picture is not None:
            self._loggers.image("data/look", 0, picture)
        self._code = CodeWatch()
        try:
            self._write("running")
        except OSError:
            self._loggers.close("failed")
            raise

    def _first_look(self) -> Image | None:
        """Return the picture of ``log.images``, on rank 0 of a run that begins. W&B's uploader finds its file."""
        setup = self._setup
        if not setup.cfg.log.images or not setup.group.is_main or setup.state.progress.step:
            return None
        return first_look(setup.run, setup.group.world_size, setup.cfg.distributed.timeout_s)

    def _open(self, open_loggers: Callable[[Facts], Logger]) -> Logger:
        """Start the loggers on rank 0; if one fails, all ranks raise its error."""
        setup, opened = self._setup, [Logger()]
        progress = setup.state.progress
        facts = Facts(
            setup.run, setup.plan.total_steps, progress.step, progress.evaluated, details(setup, self._attempt)
        )
        setup.group.from_main(lambda: opened.append(open_loggers(facts)))
        return opened[-1]

    def begin_step(self) -> None:
        """Note that a step begins."""
        self._profile.begin(self._setup.state.progress.step + 1)

    def tick(self) -> None:
        """Tell the loggers that a step is done."""
        step = self._setup.state.progress.step
        self.paused(self._profile.end(step))
        self._loggers.tick(step)

    def log_steps(self, means: StepMeans) -> None:
        """Record one row for the steps since the last row. Every rank must call it."""
        setup, state = self._setup, self._setup.state
        row: dict[str, Any] = {
            "loss": means.loss,
            "lr": setup.stepper.lr(state.progress.step - 1),
            "grad_norm": means.grad_norm,
            **means.extras,
        }
        lap = self._clock.lap(state.progress.step, setup.stepper.waited_s)
        if lap.steps:
            row |= self._speed(lap)
        if setup.group.device.type == "cuda":
            row["gpu_mem_gb"] = torch.cuda.max_memory_allocated(setup.group.device) / 2**30
        if state.precision.scales:
            row["loss_scale"] = state.precision.scaler.get_scale()
        if state.precision.skips:
            row["skipped_steps"] = state.progress.skipped
        if setup.group.is_main:
            row |= self._machine.columns(row.get("images_per_s"))
        self._row("train", row)

    def _speed(self, lap: Lap) -> dict[str, float]:
        setup = self._setup
        row = {
            "images_per_s": lap.steps * setup.plan.global_batch / lap.elapsed_s,
            "data_wait": lap.waited_s / lap.elapsed_s,
            **self._stragglers(lap),
        }
        longest_wait = row.get("data_wait_max", row["data_wait"]) * lap.elapsed_s
        if self._data_wait.add(longest_wait, lap.elapsed_s, lap.steps, setup.cfg) and setup.group.is_main:
            log.warning(self._data_wait.advice)
        return row

    def _stragglers(self, lap: Lap) -> dict[str, float]:
        """Return the columns about the slowest rank; none if there is only one rank. Every rank must call it."""
        group, forward = self._setup.group, self._setup.stepper.forward.take()
        if group.world_size == 1:
            return {}
        seconds_W2 = group.stack(torch.tensor([lap.waited_s, forward], device=group.device)).tolist()
        waited_W, forward_W = zip(*seconds_W2, strict=True)
        columns = straggler(waited_W, forward_W, lap.elapsed_s)
        rank = int(columns["slowest_rank"])
        if group.is_main and rank not in self._suspects and conspicuous(forward_W, lap.steps):
            self._suspects.add(rank)
            ratio = columns["slowest_ratio"]
            log.warning("rank %d on %s takes %.1f times as long as the others", rank, self._hosts[rank], ratio)
        return columns

    def log_evaluation(self, found: Evaluation, seconds: float) -> None:
        """Record a row of validation scores, and update ``result.json``."""
        self._row("val", {**found.scores, "seconds": seconds})
        self._warn_undefined(found.scores)
        classes = self._setup.index.outputs
        if self._setup.group.is_main and found.task == "classification" and classes <= PICTURED:
            self._loggers.image("val/confusion", self._setup.state.progress.step, confusion_image(found, classes))
        self.paused(seconds)
        self._write("running")

    def _warn_undefined(self, scores: dict[str, float]) -> None:
        """Say once per attempt that ``eval.metric`` is not a finite number, why, and what follows."""
        metric, stopping = self._setup.cfg.eval.metric, self._setup.cfg.train.early_stopping
        if math.isfinite(scores[metric]) or self._warned or not self._setup.group.is_main:
            return
        self._warned = True
        counts = f"; early stopping counts it as no gain (patience {stopping.patience})" if stopping else ""
        log.warning(
            "`eval.metric` (%s) is %s: %s. Of evaluations with the same score the one with the lowest loss is the best%s",
            metric,
            digits(scores[metric]),
            why_undefined(metric, scores),
            counts,
        )

    def _row(self, split: str, values: dict[str, Any]) -> None:
        step = self._setup.state.progress.step
        self._loggers.row({"step": step, "epoch": round(self._setup.plan.epoch(step), 4), "split": split, **values})

    def paused(self, seconds: float) -> None:
        """Exclude from images/s a time that was not spent on steps."""
        self._clock.pause(seconds)

    def _wall_s(self) -> float:
        """Return the seconds of this attempt; of a start that had nothing to do, those of the attempt that ended the run."""
        if self._earlier.get("attempt") == self._attempt and "wall_s" in self._earlier:
            return float(self._earlier["wall_s"])
        return round(self._clock.wall_s(), 3)

    def _why_early(self) -> str | None:
        """Return why the run ended before its last step; None if it did not."""
        state = self._setup.state
        at_last_step = state.progress.step >= self._setup.plan.total_steps
        return None if at_last_step else state.early_end(self._setup.cfg)

    def saving(self) -> None:
        """Remove weights that ``checkpoint.keep_best`` no longer keeps. For rank 0, while a checkpoint is being written."""
        self._kept.saving(self._setup.state.kept)

    def look_at_code(self) -> None:
        """Report the code files that have changed since the start, and start to look again. For rank 0."""
        self._report_changed_code(0.0)
        self._code.look()

    def _report_changed_code(self, limit_s: float) -> None:
        """Report what the look that was started last has found; wait up to ``limit_s`` seconds for it."""
        changed = self._code.news(limit_s)
        if changed:
            log.warning("%s", messages.changed_code(changed))
            note_changed_code(self._setup.run, self._setup.state.progress.step, changed)

    def _result(self, status: Status, reason: str = "") -> Result:
        setup, progress = self._setup, self._setup.state.progress
        speed: dict[str, Any] = {key: self._earlier.get(key) for key in ("images_per_s", "data_wait", "advice")}
        steps_per_s = self._clock.steps_per_s(progress.step)
        if steps_per_s is not None:
            speed = {
                "images_per_s": steps_per_s * setup.plan.global_batch,
                "data_wait": self._data_wait.share,
                "advice": self._data_wait.advice,
            }
        return Result(
            status=status,
            attempt=self._attempt,
            step=progress.step,
            total_steps=setup.plan.total_steps,
            best=progress.best,
            last=progress.last,
            weights="raw" if setup.state.evaluated_part == "model" else "ema",
            wall_s=self._wall_s(),
            message=self._why_early() if status == "done" else f"stopped by {reason}" if reason else None,
            paused=status == "stopped" and setup.plan.pauses(progress.step),
            **speed,
        )

    def _write(self, status: Status, reason: str = "") -> None:
        """Update ``result.json``, but keep a failure of this attempt that another rank has already written."""
        if not self._setup.group.is_main:
            return
        known = read_result(self._setup.run)
        another_rank_failed = known.get("status") == "failed" and known.get("attempt") == self._attempt
        if status != "running" or not another_rank_failed:
            write_result(self._setup.run, self._result(status, reason))

    def close(self, status: Status, reason: str) -> None:
        """End an attempt that is done or stopped: write last weights and ``result.json``, close loggers, print a summary.

        Args:
            reason: why the attempt stopped.
        """
        setup = self._setup
        self._profile.close()
        last = setup.state.plain_state() if status == "done" else {}
        if not setup.group.is_main:
            return
        self.look_at_code()
        self._kept.saved()
        if status == "done":
            save_weights(setup.run.last, last)
        self._write(status, reason)
        if status == "done":
            page = setup.cfg.log.report and write_page(setup.run, setup.cfg.distributed.timeout_s)
            for path in (setup.run.best, setup.run.last, setup.run.predictions, *([setup.run.report] if page else [])):
                if path.exists():
                    self._loggers.file(path)
        self._close_loggers(status)
        self._report_changed_code(CODE_LIMIT_S)
        log.info(self._ending(status, reason))

    def _ending(self, status: Status, reason: str) -> str:
        setup, result = self._setup, self._result(status)
        if setup.cfg.train.fast_dev_run:
            return messages.tried(result, reason)
        if status == "stopped":
            if result.paused:
                reason = f"train.pause_epoch={setup.cfg.train.pause_epoch}"
            return messages.stopped(setup.run, result, reason)
        return messages.done(setup.run, result, setup.cfg.eval.metric)

    def abandon(self) -> None:
        """Close the loggers of an attempt that fails. After ``close`` it does nothing."""
        self._profile.abandon()
        with suppress(OSError):  # if the disk is still full, this second error must not hide the first
            self._close_loggers("failed")

    def _close_loggers(self, status: Status) -> None:
        loggers, self._loggers = self._loggers, Logger()
        loggers.close(status)


def _beginning(setup: "Setup", hosts: list[str]) -> str:
    plan, index, device = setup.plan, setup.index, setup.group.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    model = f"model: {setup.cfg.model.name} at {in_pixels(setup.network.image_size)}, {count_parameters(setup.network.module)}"
    run = messages.run_line(setup.run.path, plan, setup.state.progress.step, live_step(setup.run))
    devices = getattr(setup.stepper.wrapped, "device_ids", None) or [device]  # DataParallel has several
    return messages.beginning(run, messages.device_line(name, hosts, len(devices)), model, index, plan)
