"""``python -m dist_train.drill``: its command line, and the whole of it with real torchruns."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.drill import __main__ as command
from dist_train.drill.__main__ import main
from dist_train.drill.faults import FAULTS
from tests.support.commands import help_takes_no_torch


def test_help_and_errors_need_no_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_takes_no_torch("drill")
    assert "--ranks N" in text
    (tmp_path / "bad.yaml").write_text("run: {nam: x}")
    assert main(["--config", str(tmp_path / "bad.yaml")]) == 2
    assert "`run.nam`" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--config", str(tmp_path / "bad.yaml"), "--ranks", "0"])
    assert "'0' must be a whole number above 0" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_with_real_torchruns(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    chosen = ("SIGKILL of one rank", "SIGTERM to torchrun", "SIGKILL of torchrun")
    monkeypatch.setattr(command, "FAULTS", [fault for fault in FAULTS if fault.name in chosen])
    assert main(["--config", str(tmp_path / "run.yaml"), "--ranks", "2", "run.name=fire"]) == 0
    assert "survived 3 of 3 faults without a loss" in capsys.readouterr().out
    assert not (Path(tree["run"]["output_dir"]) / "drill-fire").exists()
