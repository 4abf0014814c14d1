"""A training whose stdout or stderr is closed, full, or without a reader."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.runs import changed, folder

ROOT = Path(__file__).parents[2]
CODE = (
    "from dist_train.system.streams import go_on_without, open_missing; import os, sys; open_missing();"
    "name = os.open({file!r}, os.O_RDWR | os.O_CREAT); {call}; print('out', flush=True); print('err', file=sys.stderr);"
    "os.write(name, b'mine'); assert os.isatty(0) is False"
)


def shell(line: str, **keys: Any) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=250, **keys)


@pytest.mark.parametrize(
    "how", ["2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "| true"]
)
def test_output_that_cannot_be_written_is_dropped_and_no_file_gets_it(tmp_path: Path, how: str) -> None:
    file = tmp_path / "file"
    code = CODE.format(file=str(file), call="go_on_without()")
    done = shell(f'set -o pipefail; {sys.executable} -c "{code}" {how}')
    assert done.returncode == 0, done.stderr
    assert file.read_text() == "mine"
    if how in (">&-", ">/dev/full"):
        assert "stdout cannot be written" in done.stderr
        assert done.stderr.count("goes on without it") == 1


def test_a_command_whose_output_is_lost_fails(tmp_path: Path) -> None:
    for how, reason in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        done = shell(f"{sys.executable} -m dist_train --example flowers {how}")
        assert (done.returncode, done.stderr) == (1, f"error: stdout cannot be written: {reason}\n")
    assert shell(f"set -o pipefail; {sys.executable} -m dist_train --example flowers | head -1").returncode == 0


@pytest.mark.parametrize("how", ["</dev/null >&- 2>&-", pytest.param(">/dev/full 2>/dev/full", marks=pytest.mark.slow)])
def test_a_training_goes_on_and_writes_its_result(tree: dict[str, Any], tmp_path: Path, how: str) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed(tree, train__epochs=1)))
    done = shell(f"{sys.executable} -m dist_train --config {tmp_path}/config.yaml {how}")
    assert done.returncode == 0
    assert json.loads((folder(tree) / "result.json").read_text())["status"] == "done"


@pytest.mark.parametrize("how", [">{}", "| cat >{}"])
def test_a_file_written_to_stdout_keeps_its_place_and_stands_alone(tmp_path: Path, how: str) -> None:
    """An open of /dev/stdout would write over the beginning of FILE in `> FILE`, or replace FILE."""
    code = (
        "from pathlib import Path; from dist_train.system.streams import texts_beside;"
        "from dist_train.system.terminal import written_whole\n"
        "with texts_beside(Path('/dev/stdout')):\n"
        "    print('a table')\n"
        "    with written_whole('--json', Path('/dev/stdout')) as file: file.write(b'1')\n"
        "    with written_whole('--json', Path('/dev/fd/1')) as file: file.write(b'2')\n"
        "print('the end')"
    )
    done = shell(f'{sys.executable} -c "{code}" {how.format(tmp_path / "file")}')
    assert (tmp_path / "file").read_text() == "12the end\n"
    assert done.stderr == "a table\n"
