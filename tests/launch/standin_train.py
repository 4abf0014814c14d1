"""A trainer without torch, which ``standin_code`` puts in the place of the real one.

It keeps the contract: it resumes from its last save, stops on a signal to any rank, at a step that all ranks
reach, writes ``result.json`` and leaves with 0. Its one parameter is its step. The run's ``data.root`` holds
``plan.json``: ``steps``, ``step_s``, ``save_every``, ``startup_s``, and a ``fault`` at step ``fault_step``.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from dist_train.config import Config
from dist_train.run.folder import RunDir
from dist_train.run.provenance import begin_attempt
from dist_train.run.result import Result, read_result, write_refusal, write_result
from dist_train.system.files import read_json, write_json


def main(cfg: Config) -> int:
    """Count to ``steps``."""
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _frame: stop.append(number))
    run, plan = RunDir.of(cfg.run), json.loads((Path(cfg.data.root) / "plan.json").read_text())
    time.sleep(plan.get("startup_s", 0))
    if os.environ.get("RANK", "0") == "0":
        return _lead(run, cfg, plan, stop)
    return _follow(run, stop)


def _lead(run: RunDir, cfg: Config, plan: dict, stop: list[int]) -> int:
    saved = run.path / "saved.json"
    step = int(read_json(saved, default={"step": 0})["step"])
    (run.path / "stop").unlink(missing_ok=True)
    attempt = begin_attempt(run, cfg, int(os.environ.get("WORLD_SIZE", "1")), ["here"])
    result = Result(attempt=attempt, step=step, total_steps=plan["steps"])
    write_result(run, result)
    while step < plan["steps"] and not stop and not (run.path / "stop").exists():
        time.sleep(plan["step_s"])
        step = result.step = step + 1
        write_result(run, result)
        _fail_if_asked(run, plan, result)
        if step % plan["save_every"] == 0:
            write_json(saved, {"step": step})
    write_json(saved, {"step": step})
    result.status = "done" if step == plan["steps"] else "stopped"
    write_result(run, result)
    return 0


def _fail_if_asked(run: RunDir, plan: dict, result: Result) -> None:
    if result.step != plan.get("fault_step"):
        return
    once = run.path / "fault_happened"
    if plan.get("fault_once") and once.exists():
        return
    once.touch()
    if plan["fault"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if plan["fault"] == "kill_agent":
        os.kill(os.getppid(), signal.SIGKILL)
        return
    if plan["fault"] == "refused":
        write_refusal(run, "config", "another start works on it")
        sys.exit(2)
    result.status, result.error, result.message = "failed", plan["fault"], f"asked to fail with {plan['fault']}"
    write_result(run, result)
    sys.exit(1)


def _follow(run: RunDir, stop: list[int]) -> int:
    """Leave when rank 0 does; pass on a signal that only this rank got."""
    began = read_result(run).get("attempt", 0)
    leader_gone_after = time.time() + 60
    while time.time() < leader_gone_after:
        time.sleep(0.05)
        if stop:
            (run.path / "stop").touch()
        result = read_result(run)
        if result.get("attempt", 0) >= began and result.get("status") in ("done", "stopped", "failed"):
            return 0 if result["status"] != "failed" else 1
    return 1
