"""A whole run on a disk so slow that everything before the first step takes longer than the timeout."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from tests.support.images import of_one_size
from tests.support.ranks import free_port
from tests.support.runs import changed, folder, rows
from tests.support.slow_disk import SlowDisk, environment_of_rank, slow_disk

TIMEOUT_S = 4


def _start(config: Path, disk: SlowDisk) -> str:
    """Start two ranks, for which the images lie on the slow disk; return what rank 0 printed."""
    port = free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "dist_train", "--config", config],
            env=environment_of_rank(rank, 2, port) | disk.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=400)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)
    return outputs[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_work_before_the_first_step_takes_longer_than_the_timeout(
    tree: dict[str, Any], image_folder: Path, tmp_path: Path
) -> None:
    images = of_one_size(Path(shutil.copytree(image_folder, tmp_path / "images")))
    disk = slow_disk(tmp_path, images, call_s=0.15)
    config = tmp_path / "c.yaml"
    keys = {"augment__device": True, "data__cache": str(tmp_path / "cache"), "data__root": str(images)}
    for epochs in (1, 2):
        slow = changed(tree, **keys, train__epochs=epochs, schedule__name="constant", distributed__timeout_s=TIMEOUT_S)
        config.write_text(yaml.safe_dump(slow))
        output = _start(config, disk)
        calls = disk.calls()
        if epochs == 1:
            assert calls * disk.call_s > 5 * TIMEOUT_S
            assert re.search(r"decoding into .*: \d+ of \d+ images \(\d+%\) after 1\d s", output), output
        else:
            assert "has not changed since it was scanned" in output
    assert read_result(RunDir(folder(tree)))["status"] == "done"
    assert len(rows(folder(tree), "val")) == 2
