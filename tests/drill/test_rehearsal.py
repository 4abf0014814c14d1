"""The drill reports no loss for a correct run, and a loss for a broken one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import load_config, parse_config
from dist_train.drill.faults import FAULTS
from dist_train.drill.rehearsal import Drill, DrillError, drill_config, table
from dist_train.errors import ConfigError
from tests.support.forked_start import ForkedStart
from tests.support.ranks import start_ranks
from tests.support.runs import _main, changed


def _start(arguments: Sequence[str], ranks: int, log: Path, **overrides: Any) -> ForkedStart:
    """As the command does it, but with ranks that have torch imported."""
    _, config, *rest = arguments
    tree = load_config(config, rest).model_dump(mode="json")
    return ForkedStart(start_ranks(ranks, _main, changed(tree, **overrides)))


def _faults(*names: str) -> list[Any]:
    return [fault for fault in FAULTS if fault.name in names]


def test_two_ranks_survive(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, train__ema=0.9, augment__mixup=0.8, checkpoint__every_steps=1000))
    drill = Drill(cfg, 2, 100, _start)
    outcomes = drill(_faults("stop signal to one rank", "SIGKILL, newest checkpoint damaged"))
    assert [outcome.trouble for outcome in outcomes] == ["", ""]
    stopped, damaged = outcomes
    assert stopped.lost == 0
    assert damaged.lost > 0
    assert min(outcome.restart_s for outcome in outcomes) > 0
    lines = table(outcomes, drill.noise).splitlines()
    assert lines[1].startswith("stop signal to one rank")
    assert lines[1].endswith("0  equal")
    assert lines[-1] == "the run survived 2 of 2 faults without a loss"


def test_what_is_lost_is_told(tree: dict[str, Any]) -> None:
    starts: list[str] = []

    def forgetful(arguments: Sequence[str], ranks: int, log: Path) -> ForkedStart:
        """A machine on which the second start of a run draws other random numbers than the first."""
        again = arguments[-1] in starts
        starts.append(arguments[-1])
        if again:
            for manifest in (Path(cfg.run.output_dir) / "drill-test").glob("*/checkpoints/*/manifest.json"):
                content = json.loads(manifest.read_text())
                manifest.write_text(json.dumps(content | {"config": content["config"] | {"run.seed": 7}}))
        return _start(arguments, ranks, log, **({"run__seed": 7} if again else {}))

    cfg = parse_config(tree)
    drill = Drill(cfg, 1, 100, forgetful)
    (outcome,) = drill(_faults("SIGKILL of everything"))
    assert outcome.trouble.startswith("the weights differ by ")
    assert "two uninterrupted runs by 0.0e+00" in outcome.trouble
    assert table([outcome], drill.noise).endswith("the run survived 0 of 1 faults without a loss")


def test_the_drill_is_the_users_run_cut_short(tree: dict[str, Any], tmp_path: Path) -> None:
    cfg = parse_config(changed(tree, train__epochs=90, model__unfreeze={30: "all"}, model__freeze="backbone"))
    short = drill_config(cfg, tmp_path)
    assert (short.train.max_steps, short.train.epochs, short.checkpoint.every_steps) == (12, 90, 3)
    assert short.run.deterministic
    assert short.data.max_val_images == 256
    same = ("global_batch", "precision", "ema", "clip")
    assert [getattr(short.train, key) for key in same] == [getattr(cfg.train, key) for key in same]
    assert (short.optim, short.loss, short.augment) == (cfg.optim, cfg.loss, cfg.augment)


def test_a_run_that_fails_by_itself_ends_the_drill(tree: dict[str, Any]) -> None:
    drill = Drill(parse_config(changed(tree, data__root="nowhere")), 1, 100, _start)
    with pytest.raises(DrillError, match="a run failed without a fault"):
        drill(_faults("SIGKILL of everything"))


def test_the_reason_that_a_run_gave_is_told_and_not_torchruns_report(tree: dict[str, Any]) -> None:
    drill = Drill(parse_config(tree), 1, 100, _start)
    noise = "\n".join(["======", *["  exitcode  : 2"] * 20])
    drill._log("straight").write_text(f"error: `train.global_batch` (6) must be\n{noise}\n")
    with pytest.raises(DrillError) as error:
        drill._check("straight", drill._traces("straight"))
    assert str(error.value).splitlines()[1:] == ["`train.global_batch` (6) must be"]


def test_the_folder_of_somebody_else_is_left_alone(tree: dict[str, Any]) -> None:
    folder = Path(tree["run"]["output_dir"]) / "drill-test"
    folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match="exists but was not made by a drill"):
        Drill(parse_config(tree), 1, 100, _start)
