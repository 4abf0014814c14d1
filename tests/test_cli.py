"""The table of commands; commands that need no torch."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train import __version__
from dist_train.cli import COMMANDS, main
from dist_train.config import load_config

WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('dist_train', run_name='__main__', alter_sys=True)"


def _command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *args], capture_output=True, text=True, timeout=60)


@pytest.fixture
def file(tree: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_help_config_and_schema_need_no_torch(file: Path, tmp_path: Path) -> None:
    assert "Exit codes: 0 done, 2 bad config or data" in _command("--help").stdout
    printed = _command("--config", str(file), "--print-config", "optim.lr=0.5")
    (tmp_path / "printed.yaml").write_text(printed.stdout)
    assert load_config(tmp_path / "printed.yaml").optim.lr == 0.5
    schema = json.loads(_command("--schema").stdout)
    assert {"run", "model", "data", "train"} <= schema["properties"].keys()
    for section, content in schema["$defs"].items():
        for key, field in content.get("properties", {}).items():
            assert "description" in field or "$ref" in field, f"{section}.{key} has no words"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_without_torch(name: str) -> None:
    done = _command(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
    assert max(map(len, done.stdout.splitlines())) <= 100, "wider than 100 columns"
    assert f"  {name}" in _command("--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_function_that_is_there(name: str) -> None:
    module, _, function = COMMANDS[name][0].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_training_may_be_named(file: Path) -> None:
    named, plain = (_command(*words, "--config", str(file), "--print-config") for words in (["train"], []))
    assert named.returncode == 0
    assert named.stdout == plain.stdout


def test_a_config_error_needs_no_torch_and_exits_2(file: Path) -> None:
    wrong = _command("--config", str(file), "train.epochs=0")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: `train.epochs` (0) must be greater than 0; the default is 10\n"
    missing = _command("optim.lr=1")
    assert missing.returncode == 2
    assert "--config FILE is missing; `python -m dist_train --example` lists configs" in missing.stderr
    assert "write --config in front of flowers.yaml" in _command("train", "flowers.yaml").stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("evalute", "`evalute` is not a command; did you mean `python -m dist_train evaluate`?"),
        ("flowers.yaml", "`flowers.yaml` is not a command; did you mean `python -m dist_train --config flowers.yaml`?"),
        ("help", "`help` is not a command; did you mean `python -m dist_train --help`"),
        ("/", "`/` is a folder, not a command; for the folder of a run: `python -m dist_train evaluate /`"),
        ("zzz", "`zzz` is not a command; use one of: train, check, "),
    ],
)
def test_an_unknown_command(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "x"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")


@pytest.mark.parametrize(
    ("arguments", "missing"), [(["pack"], "SOURCE, OUT"), (["pack", "a"], "OUT"), (["branch", "--name", "a"], "RUN")]
)
def test_overrides_are_not_required(arguments: list[str], missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().err.endswith(f"error: the following arguments are required: {missing}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--check", "--world-size", "0"], "'0' must be a whole number above 0"),
        (["--check", "--world-size=-2"], "'-2' must be a whole number above 0"),
        (["--world-size", "4"], "--world-size needs --check"),
        (["--check", "--summary"], "not allowed with argument"),
    ],
)
def test_options_that_contradict_each_other(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--config", str(file), *arguments])
    assert left.value.code == 2
    assert words in capsys.readouterr().err


def test_version_and_examples(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"dist_train {__version__}\n"
    assert main(["--example"]) == 0
    assert capsys.readouterr().out.startswith("flowers ")
    assert main(["--example", "flowers"]) == 0
    (tmp_path / "flowers.yaml").write_text(capsys.readouterr().out)
    assert load_config(tmp_path / "flowers.yaml").run.name == "flowers"
    assert main(["--example", "flower"]) == 2
    assert capsys.readouterr().err == "error: --example flower: no example has this name; did you mean flowers?\n"


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipes"]) == 0
    assert "\nvit " in f"\n{capsys.readouterr().out}"
    assert main(["--recipes", "vit"]) == 0
    assert "name: vit_base_patch16_384" in capsys.readouterr().out
    assert main(["--recipes", "zzz"]) == 2
    assert capsys.readouterr().err.startswith("error: --recipes zzz: no recipe has this name; use one of: ")


def test_models_are_listed_by_pattern() -> None:
    command = [sys.executable, "-m", "dist_train", "--list-models", "squeezenet"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert listed.stdout.split() == ["torchvision", "squeezenet1_0", "torchvision", "squeezenet1_1"]


@pytest.mark.parametrize("words", [(), ("--check",)])
@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_wrong_root_is_an_error_before_torch_is_imported(
    file: Path, tmp_path: Path, words: tuple[str, ...], kind: str
) -> None:
    root = tmp_path / "nowhere"
    if kind == "a file":
        root.write_text("no folder")
    done = _command("--config", str(file), *words, f"data.root={root}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: `data.root` ({root}) is not a directory; it must hold the images\n"
    assert not (tmp_path / "runs").exists(), "no run folder"


def test_so_it_is_with_the_command_check(file: Path, tmp_path: Path) -> None:
    done = _command("check", "--config", str(file), f"data.root={tmp_path / 'nowhere'}")
    assert done.returncode == 2
    assert "is not a directory; it must hold the images" in done.stderr
    relative = _command("check", "--config", str(file), "data.root=nowhere/at/all")
    assert "`data.root` (nowhere/at/all) is not a directory in the current folder (/" in relative.stderr


def test_a_set_that_is_no_folder_has_no_such_rule(file: Path, tmp_path: Path) -> None:
    done = _command("--config", str(file), "data.format=my.sets:load", f"data.root={tmp_path / 'nowhere'}")
    assert "No module named 'torch'" in done.stderr or "import of torch halted" in done.stderr, "it went on"


@pytest.mark.parametrize(
    "line",
    [
        "evaluate run --json", "evaluate run --picture", "predict run a.png --out", "predict run a.png --embeddings",
        "probe --config a.yaml --json", "lr_find --config a.yaml --picture", "look --config a.yaml --out",
        "look --config a.yaml --doctor --out", "report run --out", "compare run --html", "compare run --png", "compare run --csv",
    ],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["{}", "{}/new/"])
def test_a_folder_is_refused_where_a_file_is_written(
    line: str, folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = folder.format(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([*line.split(), name])
    assert f"'{name}' is a folder; name a file in it" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["export run --out", "pack images"])
def test_a_file_is_refused_where_a_folder_is_written(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        main([*line.split(), str(tmp_path / "file")])
    assert "is not a folder; name another place" in capsys.readouterr().err
