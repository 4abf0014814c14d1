"""The line that an upload prints."""

import pytest

from dist_train.loggers.upload.messages import announce


def test_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    announce("MLflow", "a server \x1b[31msays")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("MLflow: a server \\x1b[31msays")
