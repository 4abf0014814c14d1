"""docs/python.md: its blocks run, one after the other, as a reader would type them."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.process_snapshot import changes, snapshot
from tests.support.ranks import run_ranks
from tests.support.runs import changed

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def _run_blocks(folder: Path) -> dict[str, Any]:
    """Run all blocks in ``folder``; what they change in the process."""
    os.chdir(folder)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 9
    names: dict[str, Any] = {"__name__": "__main__"}
    before = snapshot()
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    assert names["curve"].losses
    assert names["result"].status == "done"
    return changes(before, snapshot())


def test_the_blocks_run(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "flowers").symlink_to(image_folder)
    tree = changed(tree, run={"name": "flowers"}, data__root="data/flowers", train__epochs=1)
    (tmp_path / "flowers.yaml").write_text(yaml.safe_dump(tree))
    assert run_ranks(1, _run_blocks, tmp_path) == [{}]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "flowers", "typo", "small", "objects", "smoothed", "less-certain", "logged"
    }  # fmt: skip
