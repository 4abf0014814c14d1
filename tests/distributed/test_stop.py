"""Stops: all ranks stop at the same step, whichever rank got the signal, and nothing is lost."""

import json
import os
import signal
import threading
import time
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed import agreement
from dist_train.distributed.group import Dist, joined
from dist_train.distributed.stop import Limit, StopRequest
from dist_train.errors import TakenError
from dist_train.system.signals import STOP_SIGNALS
from dist_train.training import attempt
from dist_train.training import loop as train_module
from dist_train.training.attempt import main
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows, state_digest, train


def _stop_steps(told: int, numbers: list[int]) -> tuple[int, str]:
    """Step at which this rank stops when rank ``told`` gets signals after its 5th step."""
    with joined(DistributedConfig(timeout_s=30)) as group, StopRequest(group) as stop:
        for step in range(1, 100):
            if step == 5 and group.rank == told:
                for number in numbers:
                    os.kill(os.getpid(), number)
            if stop.agreed():
                return step, stop.reason
    raise AssertionError("never stopped")


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_a_signal_to_one_rank_stops_all_within_two_steps(number: signal.Signals) -> None:
    steps = run_ranks(3, _stop_steps, 1, [number])
    assert [step for step, _ in steps] == [6, 6, 6]
    assert [reason for _, reason in steps] == [
        "another rank received a stop signal",
        number.name,
        "another rank received a stop signal",
    ]


def test_repeated_and_different_signals_are_one_stop() -> None:
    steps = run_ranks(2, _stop_steps, 0, [signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1])
    assert [step for step, _ in steps] == [6, 6]


def test_one_process_stops_at_once() -> None:
    assert run_ranks(1, _stop_steps, 0, [signal.SIGUSR1]) == [(5, "SIGUSR1")]


def _two_interrupts() -> str:
    with StopRequest(Dist.alone()):
        os.kill(os.getpid(), signal.SIGINT)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            return "at once"
    return "ignored"


def test_the_second_interrupt_means_now() -> None:
    assert run_ranks(1, _two_interrupts) == ["at once"]


def _interrupted_twice(tree: dict[str, Any]) -> int:
    _patch("train_step", lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    return main(parse_config(tree))


def test_a_run_that_is_interrupted_twice_says_how_it_ended(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ranks(1, _interrupted_twice, tree) == [1]
    result = json.loads((folder(tree) / "result.json").read_text())
    assert (result["status"], result["error"]) == ("failed", "other")
    output = capsys.readouterr().out
    assert "error: interrupted twice: exited at once, without saving" in output
    assert "Traceback" not in output


def _in_another_thread() -> tuple[bool, str]:
    stop, heard = StopRequest(Dist.alone()), []

    def listen() -> None:
        with stop:
            heard.append(stop.agreed())
            stop.fail(TakenError("lost"))
            try:
                stop.agreed()
            except TakenError as error:
                heard.append(str(error))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    return signal.getsignal(signal.SIGTERM) == before, repr(heard)


def test_in_another_thread_it_hears_no_signals_and_errors_of_others_are_raised() -> None:
    assert run_ranks(1, _in_another_thread) == [(True, "[False, 'lost']")]


def _ends_in_time() -> float:
    stop = StopRequest(Dist.alone(), Limit(3.0, "train.time_limit=0:03"))
    stop.reserve(2.5)
    stop.reserve(0.5)
    began = time.monotonic()
    while not stop.agreed():
        time.sleep(0.01)
    assert stop.reason == "time limit: train.time_limit=0:03"
    return time.monotonic() - began


def test_the_time_limit_leaves_room_for_what_a_stop_needs() -> None:
    (waited,) = run_ranks(1, _ends_in_time)
    assert 0.4 < waited < 1.5


def _ends_before_a_long_step_would_not_fit() -> float:
    stop = StopRequest(Dist.alone(), Limit(2.0, "a test"))
    began = time.monotonic()
    while not stop.agreed():
        time.sleep(0.3)
    return time.monotonic() - began


def test_the_time_limit_leaves_room_for_steps_as_long_as_they_were() -> None:
    (waited,) = run_ranks(1, _ends_before_a_long_step_would_not_fit)
    assert 0.5 < waited < 1.7


def _train_with_a_signal(tree: dict[str, Any], rank: int, moment: str) -> int:
    """A training in which ``rank`` gets a stop signal at a moment that is hard to hit from outside."""
    if os.environ.get("RANK", "0") == str(rank):
        if moment == "to the loader processes":
            _patch("save_now", lambda: _signal_children())
        else:
            _patch(moment, lambda: os.kill(os.getpid(), signal.SIGTERM))
    return main(parse_config(tree))


def _patch(name: str, before: Any) -> None:
    module = attempt if name == "fit" else train_module
    original = getattr(module, name)

    def patched(*args: Any, **kwargs: Any) -> Any:
        before()
        return original(*args, **kwargs)

    setattr(module, name, patched)


def _signal_children() -> None:
    for process in os.listdir("/proc"):
        if process.isdigit() and _parent(process) == os.getpid():
            os.kill(int(process), signal.SIGTERM)


def _parent(process: str) -> int:
    try:
        with open(f"/proc/{process}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return -1


def _many(tree: dict[str, Any], rank: int, moment: str) -> int:
    """The same where two ranks are many, which agree at some steps only."""
    agreement.MANY_RANKS = 2
    return _train_with_a_signal(tree, rank, moment)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["train_step", "evaluate_now", "save_now"])
def test_a_stop_among_many_ranks_loses_nothing(tree: dict[str, Any], moment: str) -> None:
    straight = train(tree, 2, run__name="straight")
    tree = changed(tree, run__name="stopped", checkpoint__every_steps=2)
    codes, starts = [75], 0
    while codes[0] == 75:
        starts += 1
        codes = run_ranks(2, _many, tree, 1 if starts < 4 else -1, moment)
        assert len(set(codes)) == 1
    assert starts > 1
    assert state_digest(folder(tree)) == state_digest(straight)
    assert rows(folder(tree)) == rows(straight)


def _stops_before_its_limit() -> tuple[float, int]:
    """Seconds until this rank stops, of two that are many, and how far apart the exchanges were."""
    agreement.MANY_RANKS = 2
    with joined(DistributedConfig(timeout_s=30)) as group, StopRequest(group, Limit(3.0, "a test")) as stop:
        stop.reserve(0.5)
        began, apart = time.monotonic(), 1
        while not stop.agreed():
            apart = max(apart, stop._agreement.calls_between)
            time.sleep(0.02)
        return time.monotonic() - began, apart


def test_the_time_limit_leaves_room_for_the_next_exchange_among_many_ranks() -> None:
    for waited, apart in run_ranks(2, _stops_before_its_limit):
        assert apart > 8
        assert 0.1 < waited < 2.5


@pytest.mark.parametrize(
    "moment",
    [
        "fit",
        "save_now",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("train_step", "evaluate_now", "finished")),
    ],
)
def test_a_stop_at_any_moment_loses_nothing(tree: dict[str, Any], moment: str) -> None:
    tree = changed(tree, train__ema=0.9, checkpoint__every_steps=2, augment__mixup=0.8)
    straight = train(tree, 2, run__name="straight")
    tree = changed(tree, run__name="stopped")
    codes, starts = [75], 0
    while codes[0] == 75:
        starts += 1
        # A run that stops before each evaluation makes no progress: from the fourth start on, no signal is sent.
        codes = run_ranks(2, _train_with_a_signal, tree, 1 if starts < 4 else -1, moment)
        assert len(set(codes)) == 1
        result = json.loads((folder(tree) / "result.json").read_text())
        assert result["status"] == {75: "stopped", 0: "done"}[codes[0]]
    assert starts > 1
    assert state_digest(folder(tree)) == state_digest(straight)
    assert rows(folder(tree)) == rows(straight)


def test_signals_to_loader_processes_change_nothing(tree: dict[str, Any]) -> None:
    tree = changed(tree, data__workers=1)
    straight = train(tree, 1, run__name="straight")
    codes = run_ranks(1, _train_with_a_signal, changed(tree, run__name="signalled"), 0, "to the loader processes")
    assert codes == [0]
    assert state_digest(straight.with_name("signalled")) == state_digest(straight)
