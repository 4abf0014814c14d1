"""The CSV examples of docs/data.md are read as the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dist_train.config import parse_config
from dist_train.data.index import scan

PAGE = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(data: \{format: csv.*?)```\n```csv\n(.*?)```", PAGE, re.DOTALL)
EXPECTED = {
    "classification": [0, 1],
    "multilabel": [[1, 0, 1], [0, 0, 0], [0, 1, 0]],
    "regression": [[0.31, 0.5], [0.58, 0.25]],
}


@pytest.mark.parametrize(("config", "table"), EXAMPLES)
def test_an_example_is_read(config: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rest = {"run": {"name": "csv"}, "model": {"name": "resnet18"}, "optim": {"lr": 0.1}, "train": {"global_batch": 1}}
    kinds = {"loss": {"name": "bce" if "multilabel" in config else "mse"}, "eval": {"metric": "loss"}}
    cfg = parse_config(rest | yaml.safe_load(config) | (kinds if "task" in config else {})).data
    for line in table.splitlines()[1:]:
        image = tmp_path / cfg.root / line.split(",")[0]
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(image)
    for name in ("train.csv", "val.csv"):
        (tmp_path / cfg.root / name).write_text(table)
    index = scan(cfg)
    np.testing.assert_allclose(index.train.labels[:], np.array(EXPECTED[cfg.task]), rtol=1e-6)


def test_there_is_one_for_each_task() -> None:
    assert len(EXAMPLES) == len(EXPECTED)
