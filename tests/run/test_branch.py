"""A run that begins from the weights of another one."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train import cli
from dist_train.config import load_config, parse_config
from dist_train.config.rules.resume_keys import arithmetic
from dist_train.errors import ConfigError
from dist_train.model.weights import load_weights
from dist_train.run.branch import how_to_branch, parent_of
from dist_train.run.folder import RunDir
from dist_train.run.saved_config import branched
from dist_train.system.files import sha256_of
from tests.support.commands import call
from tests.support.ranks import run_ranks
from tests.support.runs import changed, rows, train


def provenance(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "provenance.json").read_text())
    return found


@pytest.mark.parametrize("weights", ["best", "last"])
def test_it_begins_with_the_weights_of_its_parent(tree: dict[str, Any], weights: str) -> None:
    parent = train(tree, schedule__name="constant", eval__metric="loss", train__ema=0.5)
    keys = ["optim.lr=1e-12", "train.max_steps=1", "train.ema=null"]
    code, out, err = call(cli.main, "branch", parent, "--name", "child", "--weights", weights, *keys)
    assert (code, err) == (0, ""), out
    child = parent.with_name("child")
    theirs, ours = load_weights(parent / f"{weights}.safetensors"), load_weights(child / "last.safetensors")
    assert all(ours[name].allclose(theirs[name], atol=1e-6) for name in theirs), "head and all"
    result = json.loads((parent / "result.json").read_text())
    assert provenance(child)["parent"] == {
        "run": str(parent.resolve()),
        "weights": weights,
        "step": result["best"]["step"] if weights == "best" else 10,
        "sha256": sha256_of(parent / f"{weights}.safetensors"),
    }
    assert [row["step"] for row in rows(child, "train")] == [1]
    assert "parent" not in provenance(parent)


def test_the_same_command_resumes_it_and_the_parent_stays_named(tree: dict[str, Any]) -> None:
    parent = train(tree)
    command = ("branch", parent, "--name", "child", "schedule.name=constant")
    assert call(cli.main, *command, "train.max_steps=3")[0] == 0
    child = parent.with_name("child")
    before = provenance(child)["parent"]
    (parent / "best.safetensors").write_bytes(b"it trains on")
    assert call(cli.main, *command, "train.max_steps=6")[0] == 0
    assert (provenance(child)["parent"], len(provenance(child)["attempts"])) == (before, 2)
    assert [row["step"] for row in rows(child, "train")] == [2, 3, 4, 6]


def test_two_ranks(tree: dict[str, Any]) -> None:
    parent = train(tree)
    argv = ["branch", str(parent), "--name", "child", "train.max_steps=2"]
    assert run_ranks(2, _main, argv) == [0, 0]
    assert provenance(parent.with_name("child"))["parent"]["run"] == str(parent.resolve())


def _main(argv: list[str]) -> int:
    from dist_train.training.attempt import main

    args = cli.branch_parser().parse_intermixed_args(argv[1:])
    return main(branched(args.run, args.name, args.weights, args.overrides))


def test_the_config_is_the_parents_with_the_changes(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = train(tree, run__resume="auto", augment__hflip=0.0)
    capsys.readouterr()
    argv = ["branch", str(parent), "--name", "child", "optim.lr=0.125", "--print-config"]
    assert cli.main(argv) == 0
    (tmp_path / "child.yaml").write_text(capsys.readouterr().out)
    cfg, theirs = load_config(tmp_path / "child.yaml"), load_config(parent / "config.yaml")
    differing = {key for key, value in arithmetic(cfg).items() if arithmetic(theirs)[key] != value}
    assert differing == {"optim.lr", "model.weights"}
    assert cfg.model.weights == str((parent / "best.safetensors").resolve())
    assert RunDir.of(cfg.run).path == (parent.parent / "child").resolve()
    elsewhere = branched(parent, "child", "best", [f"run.output_dir={tmp_path / 'other'}"])
    assert RunDir.of(elsewhere.run).path == tmp_path / "other" / "child"


def test_check_looks_at_the_new_run(tree: dict[str, Any]) -> None:
    parent = train(tree)
    code, out, err = call(cli.main, "branch", parent, "--name", "child", "--check")
    assert (code, err) == (0, ""), out
    assert "all good" in out
    assert not parent.with_name("child").exists()


def test_what_cannot_be_a_parent_is_refused(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="is not a run folder"):
        branched(tmp_path, "child", "best")
    run = train(tree)
    with pytest.raises(ConfigError, match=r"--name \(test\) is the run itself"):
        branched(run, "test", "best")
    with pytest.raises(ConfigError, match=r"`optim.lrr` is not a key"):
        branched(run, "child", "best", ["optim.lrr=1"])
    with pytest.raises(ConfigError, match=r"`run.name` \(' '\)"):
        branched(run, " ", "best")
    (run / "their_branch_code.py").write_text("raise SystemExit('the code ran')")
    monkeypatch.syspath_prepend(run)
    code = ["model.name=their_branch_code:make"]
    with pytest.raises(ConfigError, match=r"their_branch_code:make.* came with the run folder.* --trust"):
        branched(run, "child", "best", code)
    assert branched(run, "child", "best", code, trust=True).model.name == "their_branch_code:make"
    (run / "last.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"has no last.safetensors: .* or use --weights best"):
        branched(run, "child", "last")
    *_, path = sorted((run / "checkpoints").glob("*/manifest.json"))
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "config": manifest["config"] | {"given.model": "m:Net"}}))
    with pytest.raises(ConfigError, match=r"trained with objects from Python code \(model\)"):
        branched(run, "child", "best")


@pytest.mark.parametrize(
    "value",
    [1e-05, 3, True, None, "adamw", "null", "1e-3", "a: b", "it's", "*x", [0.5, 1.0], ["conv1", "layer1.*"], {"n": 2}],
)
def test_the_command_of_an_error_message_says_what_it_should(value: Any, tmp_path: Path) -> None:
    words = how_to_branch(RunDir(tmp_path / "my run"), {"a.b": value})
    said, _, command = words.partition(": ")
    assert said == "begin a new run from its weights"
    *start, override = shlex.split(command)
    assert start == ["python", "-m", "dist_train", "branch", str(tmp_path / "my run"), "--name", "NEW"]
    key, _, text = override.partition("=")
    from dist_train.config.yaml_text import parse_yaml

    assert (key, parse_yaml(text, key)) == ("a.b", value)


def test_a_parent_is_named_however_the_weights_were_chosen(tree: dict[str, Any], tmp_path: Path) -> None:
    parent = train(tree)
    other = tmp_path / "best.safetensors"
    other.write_bytes((parent / "best.safetensors").read_bytes())
    for weights, named in (
        (None, False),
        (other, False),
        (parent / "predictions.npz", False),
        (parent / "best.safetensors", True),
    ):
        cfg = parse_config(changed(tree, model__weights=None if weights is None else str(weights)))
        assert (parent_of(cfg) is not None) == named


def test_a_config_file_is_not_a_run(tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    assert cli.main(["branch", str(tmp_path / "run.yaml"), "--name", "child"]) == 2
    assert "is not a run folder" in capsys.readouterr().err
