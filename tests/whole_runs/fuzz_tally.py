"""What the faults of a fuzz hit and cost, and what no fault may cost."""

from collections import Counter
from typing import Any

from dist_train.drill.faults import FAULTS
from dist_train.run.result import read_result
from tests.whole_runs.fuzz_faults import EVALUATE_EVERY, IN_A_SAVE, SAVE_EVERY, UNGRACEFUL, Start

GRACEFUL = {fault.name for fault in (*FAULTS, IN_A_SAVE) if fault.graceful}
DAMAGE = {fault.name for fault in FAULTS if fault.damage}


class Tally:
    """What happened over all starts."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.disks: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.lost_after_stop = self.lost_after_kill = self.lost_in_flight = self.runs = self.skipped = 0

    @property
    def kills(self) -> int:
        return sum(self.faults.values())

    def report(self) -> dict[str, Any]:
        return {
            "kills": self.kills,
            "runs": self.runs,
            "faults": dict(sorted(self.faults.items())),
            "what_they_hit": dict(self.hits),
            "how_the_starts_ended": dict(self.ends),
            "models": dict(sorted(self.models.items())),
            "file_systems": dict(self.disks),
            "steps_skipped": self.skipped,
            "checkpoint_every_steps": SAVE_EVERY,
            "most_steps_lost_after_a_stop": self.lost_after_stop,
            "most_steps_lost_after_a_kill": self.lost_after_kill,
            "most_steps_lost_after_a_kill_with_a_checkpoint_in_flight": self.lost_in_flight,
            "runs_that_ended_with_other_weights_or_rows": 0,
            "starts_that_hung": 0,
            "starts_that_ended_without_a_reason": 0,
        }

    def note(self, name: str, start: Start) -> None:
        """Count what a fault hit and what it cost.

        Raises:
            AssertionError: it cost more steps than it may, or nothing says why the run ended.
        """
        traces, going = start.traces, start.going()
        in_flight = traces.in_flight(start.stale)
        self.faults[name] += 1
        evaluating = going and traces.evaluating(EVALUATE_EVERY)
        moment = "save" if in_flight else "evaluation" if evaluating else "step" if going else "start-up"
        self.hits[moment] += 1
        result = read_result(traces.run)
        status, message = result.get("status"), result.get("message") or ""
        self.ends[f"{status} ({result['error']})" if status == "failed" else str(status)] += 1
        if name not in UNGRACEFUL | DAMAGE and traces.run.path.exists():
            told = status == "done" or (status in ("stopped", "failed") and message.removeprefix("rank 0: "))
            if name == "full disk" and not result:  # not one byte of a new file fits: the terminal must say why
                told = "No space left on device; the saved checkpoints" in start.starts.said()
            if name == "ulimit -v (memory)" and status == "running":  # a C++ library without memory aborts the process
                told = "terminate called" in start.starts.said()
            assert told, f"{name}: result.json gives no reason: {result}\n{start.starts.said()}"
        if not going or name in DAMAGE or status == "done":
            return
        lost = max(0, traces.reached() - max([0, *traces.saved()]))
        if status == "stopped" and name in GRACEFUL:
            self.lost_after_stop = max(self.lost_after_stop, lost)
            assert lost == 0, f"{name}: {lost} steps lost after a stop"
        elif in_flight or status == "failed":  # what could not be written counts as in flight
            self.lost_in_flight = max(self.lost_in_flight, lost)
            assert lost <= 2 * SAVE_EVERY, f"{name}: {lost} steps lost with a checkpoint in flight"
        else:
            self.lost_after_kill = max(self.lost_after_kill, lost)
            assert lost <= SAVE_EVERY, f"{name}: {lost} steps lost"
