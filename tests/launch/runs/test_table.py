"""The comparison as text."""

from pathlib import Path

import pytest

from launch.runs.groups import grouped
from launch.runs.reader import Run, read_run
from launch.runs.table import columns_of, terminal_width, text_tables
from tests.launch.run_folders import make_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    found = [read_run(make_run(tmp_path, name, lr).path) for name, lr in (("a", 0.1), ("b", 0.2))]
    found[1].settings["versions.torch"] = "2.0"
    return found


def test_results_come_first_then_settings_that_matter(runs: list[Run]) -> None:
    columns = columns_of(runs)
    assert columns[:3] == ["name", "best.top1", "optim.lr"]
    assert columns[-1] == "versions.torch"


@pytest.mark.parametrize("width", [20, 60, 80])
def test_the_table_fits_and_names_what_it_lacks(runs: list[Run], width: int) -> None:
    table, note = text_tables(grouped(runs), width).split("\n\n")
    assert max(map(len, table.splitlines())) <= width
    shown = table.split("\n")[0].split()
    assert shown[:2] == ["name", "best.top1"]
    for key in columns_of(runs):
        assert (key in shown) != (key in note)


def test_a_pipe_gets_every_column(runs: list[Run]) -> None:
    assert terminal_width() is None
    assert text_tables(grouped(runs)).split("\n")[0].split() == columns_of(runs)


def test_each_group_has_its_table(runs: list[Run]) -> None:
    runs[1].settings["data.fold"] = "1/5"
    first, second, note = text_tables(grouped(runs)).split("\n\n")
    assert first.startswith("top1 on data.fold=null:\nname")
    assert second.startswith("top1 on data.fold=1/5:\nname")
    assert "their results do not compare" in note


def test_the_tree_comes_last(runs: list[Run]) -> None:
    provenance = runs[1].path / "provenance.json"
    parent = f'{{"run": "{runs[0].path.resolve()}", "weights": "best", "step": 2}}'
    provenance.write_text(f'{{"parent": {parent}, "attempts": []}}')
    assert text_tables(grouped(runs)).endswith("weights:\n  a\n    b: from the best weights (step 2)")
