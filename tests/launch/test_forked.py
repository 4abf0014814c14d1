"""``dist-train launch``: the ranks of one machine, with a stand-in trainer and with the real one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import parse_config
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system import processes
from dist_train.system.files import write_json
from dist_train.system.program import program
from launch.forked import _code, main
from tests.launch.commands import ROOT
from tests.launch.local_runs import result_of, wait_for_step
from tests.support.runs import changed, folder, rows, state_digest, train

LAUNCH = [sys.executable, "-m", "dist_train", "launch", "--nproc-per-node=2"]


def begin(code: Path, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
    """Start ``launch`` in a session of its own."""
    env = {name: value for name, value in os.environ.items() if name != "RANK"} | {"PYTHONPATH": str(code)} | variables
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*LAUNCH, *map(str, arguments)], cwd=code, env=env, start_new_session=True, **pipes)


def test_a_run_is_trained(standin_code: Path, make_config: Callable[..., Path], tmp_path: Path) -> None:
    with begin(standin_code, "--config", make_config(steps=3)) as process:
        output = process.communicate(timeout=60)[0]
    assert (process.returncode, result_of(tmp_path)["status"]) == (0, "done"), output


def test_a_stop_signal_stops_the_run(standin_code: Path, make_config: Callable[..., Path], tmp_path: Path) -> None:
    with begin(standin_code, "--config", make_config(steps=1000)) as process:
        wait_for_step(tmp_path, 2)
        process.terminate()
        output = process.communicate(timeout=60)[0]
    assert (process.returncode, result_of(tmp_path)["status"]) == (75, "stopped"), output


def test_ctrl_c_during_the_imports_prints_no_traceback(standin_code: Path) -> None:
    slow = "import time\nopen('importing', 'w').close()\ntime.sleep(60)\n"
    (standin_code / "dist_train" / "training" / "attempt.py").write_text(slow)
    with begin(standin_code, "evaluate", "runs") as process:
        wait_until((standin_code / "importing").exists)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    assert (process.returncode, output) == (-signal.SIGINT, "interrupted\n")


WAITS = """
import time
from dist_train.inference.command_line import reported, run_parser
def parser():
    return run_parser("evaluate", "", several=True)
def main(argv):
    def wait():
        open("waiting-" + argv[0] + "-" + __import__("os").environ["RANK"], "w").close()
        time.sleep(60)
        return 0
    return reported(wait)
"""


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "interrupted\n"), (signal.SIGTERM, ""), (signal.SIGUSR1, "")]
)
def test_a_command_that_cannot_be_resumed_ends_by_the_signal(
    standin_code: Path, number: signal.Signals, said: str
) -> None:
    (standin_code / "dist_train" / "evaluate.py").write_text(WAITS)
    with begin(standin_code, "evaluate", "runs") as process:
        wait_until(lambda: len(list(standin_code.glob("waiting-runs-*"))) == 2)
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
    assert (process.returncode, output) == (-number, said)


RANK_1_FAILS_ONCE = """
import os, signal, time
def main(cfg):
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "1":
        return 0
    if os.environ["RANK"] == "0":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        open("rank_0_waits", "w").close()
        time.sleep(60)
    while not os.path.exists("rank_0_waits"):
        time.sleep(0.01)
    return 1
"""


@pytest.mark.parametrize(
    ("restarts", "code", "said"), [(1, 0, "starting all ranks again, 1 restart(s) left"), (0, 1, "")]
)
def test_all_start_again_when_one_has_failed(
    standin_code: Path, make_config: Callable[..., Path], restarts: int, code: int, said: str
) -> None:
    (standin_code / "dist_train" / "training" / "attempt.py").write_text(RANK_1_FAILS_ONCE)
    with begin(standin_code, "--max-restarts", restarts, "--config", make_config()) as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == code, output
    assert f"rank 1 ended with exit code 1; {said or 'no restart left'}" in output


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--config", "none.yaml"], {}, "error: cannot read the config file none.yaml"),
        (["--config", "none.yaml"], {"RANK": "0"}, "without torchrun"),
        (["--config", "none.yaml"], {"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set"),
        (["compare", "runs"], {}, "`compare` is not a command for several ranks; use one of: train"),
        ([], {}, "--config FILE is missing"),
        (["--nnodes=2", "--config", "none.yaml"], {}, "unrecognized arguments: --nnodes=2"),
        (["predict", "run"], {}, "error: the following arguments are required: IMAGES"),
        (["lr_find", "--config", "none.yaml", "--steps=1"], {}, "1 steps are too few"),
        (["--nproc-per-node=gpu", "predict", "run", "a.png"], {"CUDA_VISIBLE_DEVICES": ""}, "can use none"),
    ],
)
def test_a_wrong_command_is_refused_without_torch(arguments: list[str], variables: dict[str, str], said: str) -> None:
    with begin(ROOT, *arguments, PYTHONPROFILEIMPORTTIME="1", **variables) as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert output.count(said) == 1
    assert "| torch\n" not in output


@pytest.mark.parametrize(
    ("line", "usage"),
    [
        (["--help"], "launch --nproc-per-node N|gpu|cpu|auto"),
        (["--help", "predict"], "launch --nproc-per-node N|gpu|cpu|auto"),
        (["--nproc-per-node=2", "--help"], "launch --nproc-per-node N|gpu|cpu|auto"),
        (["--nproc-per-node=2", "predict", "--help"], "predict [-h]"),
        (["calibrate", "-h"], "calibrate [-h]"),
        (["--nproc-per-node=2", "train", "--help"], "--config FILE"),
    ],
)
def test_help_is_that_of_the_command_before_it(line: list[str], usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {program()} {usage}")


@pytest.mark.slow
def test_a_killed_rank_is_started_again_with_the_same_weights(tree: dict[str, Any], tmp_path: Path) -> None:
    """``tests/whole_runs/test_torchrun.py`` tests the same under torchrun."""
    long = changed(tree, train__epochs=8, checkpoint__every_steps=3, log__every_steps=1, train__ema=0.9)
    straight = train(long, 2, run__name="straight")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(long))
    run = RunDir(folder(long))
    with begin(ROOT, "--max-restarts=1", "--config", tmp_path / "run.yaml") as process:
        wait_until(lambda: run.saved_step() > 0)
        os.kill(sorted(processes.children(process.pid))[1], signal.SIGKILL)
        output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    assert "rank 1 was killed by SIGKILL; starting all ranks again" in output
    assert output.count("resuming from") == 1
    assert state_digest(folder(long)) == state_digest(straight)
    assert rows(folder(long)) == rows(straight)


@pytest.mark.slow
def test_a_killed_rank_is_a_failure(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(changed(tree, train__epochs=500)))
    run = RunDir(folder(tree))
    with begin(ROOT, "--config", tmp_path / "run.yaml") as process:
        wait_until(lambda: run.metrics.exists() and len(run.metrics.read_text().splitlines()) > 2)
        os.kill(sorted(processes.children(process.pid))[1], signal.SIGKILL)
        output = process.communicate(timeout=200)[0]
    assert process.returncode == 1, output
    result = read_result(run)
    assert (result["status"], result["error"]) == ("failed", "comm")
    assert result["message"].startswith("rank 0 lost the connection to another rank")


@pytest.mark.parametrize(
    ("failed", "sent", "recorded", "code"),
    [
        (0, [], "done", 0),
        (0, [], "stopped", 75),  # a rank got the stop signal
        (0, ["SIGTERM"], "running", 75),
        (-signal.SIGTERM, ["SIGTERM"], "running", 75),
        (-signal.SIGKILL, [], "stopped", 1),  # the other ranks took our SIGTERM for a stop
        (1, ["SIGTERM"], "failed", 1),
        (2, [], "", 2),
    ],
)
def test_exit_codes(tree: dict[str, Any], failed: int, sent: list[str], recorded: str, code: int) -> None:
    cfg = parse_config(tree)
    run = RunDir.of(cfg.run)
    run.path.mkdir(parents=True)
    write_json(run.result, {"status": recorded})
    assert _code(failed, sent, cfg) == code


@pytest.mark.slow
def test_ranks_save_when_it_is_killed(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(changed(tree, train__epochs=500, checkpoint__every_steps=1000)))
    run = RunDir(folder(tree))
    with begin(ROOT, "--config", tmp_path / "run.yaml") as process:
        wait_until(lambda: run.metrics.exists() and len(run.metrics.read_text().splitlines()) > 2)
        ranks = processes.children(process.pid)
        process.kill()
        wait_until(lambda: not any(map(processes.alive, ranks)))
    assert len(ranks) == 2
    assert run.saved_step() > 0


def wait_until(true: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 100
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
