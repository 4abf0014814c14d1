"""The Python API: objects in, a result out, errors raised, and the process left as it was."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dist_train
from dist_train.config import parse_config
from dist_train.errors import CommError, ConfigError, DataError, DistTrainError, NonFiniteError
from dist_train.run.result import Result
from tests.support.process_snapshot import changes, snapshot
from tests.support.ranks import free_port, run_ranks
from tests.support.runs import changed, folder, rows, state_digest, train

QUICK = """
import sys, time
sys.modules["torch"] = None
began = time.process_time()
import dist_train
took = time.process_time() - began
assert {"load_config", "load_run", "train", "Config"} <= set(dir(dist_train)), dir(dist_train)
assert not {"pydantic", "numpy", "yaml"} & sys.modules.keys(), "imported before it is used"
assert callable(dist_train.train) and callable(dist_train.load_run) and callable(dist_train.load_config)
print(took)
"""


def test_the_import_takes_a_moment_and_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", QUICK], capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout) < 0.1


def test_every_name_is_there_and_another_is_not() -> None:
    for name in dist_train.__all__:
        assert getattr(dist_train, name) is not None
    with pytest.raises(AttributeError, match="module 'dist_train' has no attribute 'tarin'"):
        dist_train.tarin  # noqa: B018


def _outcome(tree: dict[str, Any], **objects: Any) -> tuple[str, str]:
    """Status, or kind of error and its message."""
    try:
        return dist_train.train(parse_config(tree), **objects).status, ""
    except Exception as error:  # noqa: BLE001 - its type is what the test looks at
        return type(error).__name__, str(error)


def _interrupt_at_step_2(tree: dict[str, Any]) -> threading.Thread:
    def wait_and_interrupt() -> None:
        while not (folder(tree) / "checkpoints" / "step_00000002").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait_and_interrupt)
    thread.start()
    return thread


def _before_and_after(tree: dict[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Outcome and changes of a run that is done, one refused, one that fails, one that is stopped."""
    signal.signal(signal.SIGUSR1, lambda *_: None)  # a program's own handler
    torch.use_deterministic_algorithms(True, warn_only=True)
    failing = changed(tree, run__name="failing", optim__lr=1e30, checkpoint__every_steps=1)
    refused = changed(tree, run__name="refused", data__root="/nowhere")
    stopped = changed(tree, run__name="stopped", train__epochs=500, checkpoint__every_steps=1, data__workers=0)
    found, before = [], snapshot()
    for one in (tree, refused, failing, stopped):
        if one is stopped:
            interrupting = _interrupt_at_step_2(one)
        outcome = _outcome(one)
        if one is stopped:
            interrupting.join()
        found.append((outcome, changes(before, snapshot())))
    return found


def test_the_process_is_as_it_was_however_a_run_ends(tree: dict[str, Any]) -> None:
    tree = changed(tree, data__workers=2, augment={"randaugment": {}, "erasing": 0.5, "mixup": 0.8}, train__ema=0.9)
    (ends,) = run_ranks(1, _before_and_after, changed(tree, log__tensorboard=True, run__deterministic=False))
    assert [outcome for (outcome, _), _ in ends] == ["done", "DataError", "NonFiniteError", "stopped"]
    for outcome, differences in ends:
        assert differences == {}, outcome


def _interrupted_after_training(tree: dict[str, Any]) -> str:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a program of its own
    dist_train.train(parse_config(tree))
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        return "at once"
    return "swallowed"


def test_an_interrupt_after_training_is_not_swallowed(tree: dict[str, Any]) -> None:
    assert run_ranks(1, _interrupted_after_training, changed(tree, train__max_steps=1)) == ["at once"]


def _result(tree: dict[str, Any]) -> Result:
    return dist_train.train(parse_config(tree))


@pytest.mark.parametrize("world_size", [1, 2])
def test_every_rank_gets_the_result(tree: dict[str, Any], world_size: int) -> None:
    results = run_ranks(world_size, _result, tree)
    assert results == [results[0]] * world_size
    assert (results[0].status, results[0].step, results[0].folder) == ("done", 10, folder(tree))
    assert results[0].best is not None
    assert results[0].best["top1"] == max(row["top1"] for row in rows(folder(tree), "val"))


def test_it_computes_what_the_command_does(tree: dict[str, Any]) -> None:
    command = train(tree, run__name="command")
    assert run_ranks(1, _result, changed(tree, run__name="program"))[0].status == "done"
    assert state_digest(command.with_name("program")) == state_digest(command)


def _twice(tree: dict[str, Any], port: str) -> list[Any]:
    """A refused run and a good one, in a process group of the program's own and in none."""
    torch.distributed.init_process_group("gloo")
    found: list[Any] = [_outcome(changed(tree, run__name="first")), torch.distributed.is_initialized()]
    torch.distributed.destroy_process_group()
    os.environ["MASTER_PORT"] = port  # a program's own group has closed its store on the other one
    found += [_outcome(changed(tree, run__name="bad", model__name="nothing"))[0], torch.distributed.is_initialized()]
    return [*found, _outcome(changed(tree, run__name="second")), torch.distributed.is_initialized()]


def test_a_process_group_stays_if_it_was_there_before(tree: dict[str, Any]) -> None:
    expected = [("done", ""), True, "ConfigError", False, ("done", ""), False]
    assert run_ranks(2, _twice, changed(tree, train__max_steps=2), str(free_port())) == [expected] * 2


class Faulty(nn.Module):
    """A model whose forward pass fails on rank 1, some steps into the run."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 8 and os.environ.get("RANK") == "1":
            raise KeyError("a mistake of the program's own")
        return self.head(images.mean((2, 3)))  # type: ignore[no-any-return]


def _with_faulty_model(tree: dict[str, Any]) -> tuple[str, str, bool]:
    return *_outcome(tree, model=Faulty), torch.distributed.is_initialized()


def test_an_error_of_one_rank_reaches_all_of_them(tree: dict[str, Any]) -> None:
    first, second = run_ranks(2, _with_faulty_model, tree)
    assert second == ("KeyError", repr("a mistake of the program's own"), False)
    assert first[0] == CommError.__name__
    assert "rank 0 lost the connection to another rank" in first[1]
    assert not first[2]


def _with_a_killed_loader(tree: dict[str, Any]) -> list[Any]:
    def kill_one() -> None:
        while not (loaders := multiprocessing.active_children()):
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(loaders[0].pid or 0, signal.SIGKILL)

    killing = threading.Thread(target=kill_one)
    before = snapshot()
    killing.start()
    kind, message = _outcome(tree)
    killing.join()
    return [kind, message, changes(before, snapshot())]


def test_a_killed_loader_process_is_one_error(tree: dict[str, Any]) -> None:
    tree = changed(tree, train__epochs=500, data__workers=2, checkpoint__every_steps=1)
    ((kind, message, differences),) = run_ranks(1, _with_a_killed_loader, tree)
    assert kind == "DistTrainError"
    assert "lower `data.workers` (2) or `data.prefetch`" in message
    assert differences == {}


def _in_a_thread(tree: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(_outcome(tree)))
    before = snapshot()
    thread.start()
    thread.join()
    return [*found, changes(before, snapshot())]


def test_it_works_in_another_thread(tree: dict[str, Any]) -> None:
    assert run_ranks(1, _in_a_thread, changed(tree, train__max_steps=2)) == [[("done", ""), {}]]


def _moved_away(tree: dict[str, Any]) -> tuple[str, str]:
    class Moving(nn.Module):
        """The run folder is moved under the run, and the step takes longer than a heartbeat."""

        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.head = nn.Linear(3, num_classes)

        def forward(self, images: Tensor) -> Tensor:
            if folder(tree).exists() and (folder(tree) / "metrics.jsonl").exists():
                folder(tree).rename(folder(tree).with_name("moved"))
                time.sleep(5)
            return self.head(images.mean((2, 3)))  # type: ignore[no-any-return]

    return _outcome(tree, model=Moving)


def test_a_run_that_is_lost_raises_and_does_not_end_the_process(tree: dict[str, Any]) -> None:
    ((kind, message),) = run_ranks(1, _moved_away, tree)
    assert kind == "TakenError"
    assert "its folder was moved or removed; this start ends" in message
    assert not folder(tree).exists()


def test_errors_are_told_as_what_they_are(tree: dict[str, Any], tmp_path: Path) -> None:
    assert issubclass(ConfigError, DistTrainError)
    assert issubclass(DataError, DistTrainError)
    assert issubclass(NonFiniteError, DistTrainError)
    with pytest.raises(ConfigError, match="cannot read the config file"):
        dist_train.load_config(tmp_path / "nothing.yaml")
