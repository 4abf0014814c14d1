"""docs/tutorial.md: every command exists with its options, and the page works from its first block to its last."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dist_train.cli import COMMANDS
from dist_train.config import parse_config
from tests.support.examples import DOCS

ROOT = DOCS.parent
PAGE = (DOCS / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(sh|yaml|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LINES = [line.partition("  #")[0] for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
OURS = [shlex.split(line)[1:] for line in LINES if line.startswith("dist-train ")]
SMALL = 12
"""Images of each class and split in the test."""


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_commands_and_options_exist(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name, options = (words[0], words[1:]) if words[0] in COMMANDS else ("train", words)
    module, _, function = COMMANDS[name][0].partition(":")
    with pytest.raises(SystemExit) as ended:
        getattr(importlib.import_module(module), function)(["--help"])
    assert ended.value.code == 0
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    assert {word for word in options if word.startswith("--")} <= known


def test_the_config_and_its_overrides_are_read() -> None:
    (text,) = [text for kind, text in BLOCKS if kind == "yaml"]
    cfg = parse_config(yaml.safe_load(text))
    keys = {word.partition("=")[0] for words in OURS for word in words if re.match(r"\w+\.[\w.]+=", word)}
    sections = cfg.model_dump()
    assert {key for key in keys if key.split(".")[1] not in sections[key.split(".")[0]]} == set()


@pytest.mark.slow
def test_the_whole_page_works(tmp_path: Path) -> None:
    for name in (".demo", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    said = {}
    for number, (kind, text) in enumerate(BLOCKS):
        if kind == "yaml":
            (tmp_path / "photos.yaml").write_text(text.replace("epochs: 6", "epochs: 1"))
        else:
            said[number] = run(kind, text, tmp_path)
        if "tar xzf" in text:
            thin_out(tmp_path / "photos")
    made = re.findall(r"(?:--out|--picture|--html|--embeddings) (\S+)", "\n".join(LINES))
    assert [name for name in made if not (tmp_path / name).exists()] == []
    assert (tmp_path / "runs" / "photos" / "report.html").exists()
    ((right, count),) = re.findall(r"(\d+) of (\d+) are right", "".join(said.values()))
    assert int(count) == 10 * SMALL
    assert int(right) > 0


def run(kind: str, text: str, folder: Path) -> str:
    """Run a block as a shell or Python would; raise AssertionError, with what it printed, if it fails."""
    shell = f'set -e; dist-train() {{ {shlex.quote(sys.executable)} -m dist_train "$@"; }}; PATH={Path(sys.executable).parent}:$PATH\n'
    command = ["bash", "-c", shell + text] if kind == "sh" else [sys.executable, "-c", text]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def thin_out(photos: Path) -> None:
    for folder in photos.glob("*/*/"):
        for file in sorted(folder.iterdir())[SMALL:]:
            file.unlink()
