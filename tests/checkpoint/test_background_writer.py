"""The trainer's side of the writer process: from its start to its end."""

import os
from pathlib import Path

import pytest
import torch

from dist_train.checkpoint.background_writer import BackgroundWriter, WriterDied
from dist_train.checkpoint.format import lay_out
from dist_train.checkpoint.manifest import Job
from dist_train.system.processes import alive
from tests.support.states import manifest_of, state_of


def _job(folder: Path, step: int) -> Job:
    layout = lay_out(state_of(step))
    return Job(folder, None, manifest_of(step), 2, layout.header, layout.payload_bytes, [])


def test_it_says_that_it_is_ready_and_then_what_became_of_each_job(tmp_path: Path) -> None:
    opened = set(os.listdir("/proc/self/fd"))
    writer = BackgroundWriter()
    writer.start()
    pid = writer.process.pid
    assert writer.answer() == ""
    assert not writer.answers_within(0.0), "one answer for each question"
    writer.reserve(10_000, torch.device("cpu"))
    writer.begin(_job(tmp_path / "checkpoints", 1), lay_out(state_of(1)), lambda name: False)
    assert writer.answer() == ""
    writer.begin(_job(tmp_path / "not there" / "checkpoints", 2), lay_out(state_of(2)), lambda name: False)
    assert writer.answers_within(60)
    assert "No such file" in writer.answer()
    writer.close()
    writer.close()
    assert not alive(pid)
    assert set(os.listdir("/proc/self/fd")) == opened
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]


@pytest.mark.parametrize("when", ["before the job", "before the answer"])
def test_its_death_is_an_error(tmp_path: Path, when: str) -> None:
    writer = BackgroundWriter()
    writer.start()
    assert writer.answer() == ""
    writer.kill()
    writer.process.wait()
    with pytest.raises(WriterDied, match="exit code -9"):
        if when == "before the job":
            writer.begin(_job(tmp_path, 1), lay_out(state_of(1)), lambda name: False)
        writer.answer()
    writer.close()
