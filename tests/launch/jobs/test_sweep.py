"""From the description of a sweep to its runs."""

import re
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from launch.jobs.option_values import Draw, Halving
from launch.jobs.sweep import expand, halving_in


def test_grid_is_the_product_of_its_axes() -> None:
    runs = expand(["optim.lr=1e-4,3e-4", "run.seed=0,1,2"], "vit")
    assert len(runs) == 6
    assert runs[0] == ("vit-lr1e-4-seed0", ["optim.lr=1e-4", "run.seed=0"])
    assert runs[-1] == ("vit-lr3e-4-seed2", ["optim.lr=3e-4", "run.seed=2"])


def test_commas_inside_brackets_belong_to_the_value() -> None:
    runs = expand(["optim.betas=[0.9,0.99],[0.9,0.999]"], "vit")
    assert [overrides for _, overrides in runs] == [["optim.betas=[0.9,0.99]"], ["optim.betas=[0.9,0.999]"]]
    assert runs[0][0] == "vit-betas_0.9_0.99_"


def test_spaces_after_commas_are_no_part_of_a_value() -> None:
    assert expand(["optim.lr=1e-4, 3e-4"], "vit") == expand(["optim.lr=1e-4,3e-4"], "vit")


def test_file_with_a_list(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("list:\n- {optim.lr: 1e-4, run.seed: 0}\n- {optim.lr: 3e-4, run.name: best}\n")
    assert expand([str(file)], "vit") == [
        ("vit-lr1e-4-seed0", ["optim.lr=1e-4", "run.seed=0"]),
        ("best", ["optim.lr=3e-4", "run.name=best"]),
    ]


def test_file_with_a_grid(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("grid:\n  model.freeze: [none, backbone]\n  optim.betas: [[0.9, 0.95]]\n")
    assert expand([str(file)], "a") == [
        ("a-freezenone-betas_0.9_0.95_", ["model.freeze=none", "optim.betas=[0.9, 0.95]"]),
        ("a-freezebackbone-betas_0.9_0.95_", ["model.freeze=backbone", "optim.betas=[0.9, 0.95]"]),
    ]


@pytest.mark.parametrize(
    ("specs", "content"),
    [
        (["optim.lr="], None),
        (["optim.lr=1,1"], None),
        (["missing.yaml"], None),
        (["sweep.yaml"], "grid: {a: 3}"),
        (["sweep.yaml"], "list: []"),
        (["sweep.yaml"], "other: 1"),
        (["sweep.yaml", "a=1"], "list: [{a: 1}]"),
    ],
)
def test_what_means_nothing_is_an_error(
    specs: list[str], content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content:
        (tmp_path / "sweep.yaml").write_text(content)
    with pytest.raises(ConfigError, match="sweep"):
        expand(specs, "vit")


def test_a_file_may_hold_the_halving(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("grid: {optim.lr: [1e-4, 3e-4]}\nhalving: {factor: 2}\n")
    assert len(expand([str(file)], "vit")) == 2
    assert halving_in([str(file)]) == Halving(2, 1)
    assert halving_in(["optim.lr=1,2"]) is None
    for wrong in ("{factor: 1}", "{rungs: 3}", "[3]", "{first_epoch: 0}"):
        file.write_text(f"grid: {{optim.lr: [1e-4, 3e-4]}}\nhalving: {wrong}\n")
        with pytest.raises(ConfigError, match="--sweep, `halving`"):
            halving_in([str(file)])


def test_drawn_points_are_crossed_with_the_grid(tmp_path: Path) -> None:
    specs = ["optim.lr=log(1e-5,1e-2)", "run.seed=0,1"]
    runs = expand(specs, "vit", Draw("halton", 4))
    assert len(runs) == 8
    rates = [overrides[0] for _, overrides in runs]
    assert rates[0] == rates[1] != rates[2]
    assert runs[0][0] == f"vit-lr{rates[0].partition('=')[2]}-seed0"
    file = tmp_path / "sweep.yaml"
    file.write_text("ranges: {optim.lr: 'log(1e-5, 1e-2)'}\ngrid: {run.seed: [0, 1]}\ndraw: halton:4\n")
    assert expand([str(file)], "vit") == runs
    assert expand([str(file)], "vit", Draw("halton", 2)) == runs[:4]


@pytest.mark.parametrize(
    ("content", "drawn", "message"),
    [
        ("ranges: {a: 'int(1, 9)'}", None, "say how many points to draw"),
        ("grid: {a: [1]}\ndraw: halton:3", None, "--draw halton:3 has no effect"),
        ("list: [{a: 1}]", Draw("random", 3), "--draw random:3 has no effect"),
        ("ranges: {a: 'int(1, 9)'}\ndraw: sobol:3", None, "--sweep, `draw`: 'sobol:3' must be halton:RUNS"),
        ("ranges: {a: 'int(1, 9)'}\ngrid: {a: [1]}\ndraw: halton:3", None, "a has a list in `grid` and a range"),
        ("ranges: {a: [1, 2]}\ndraw: halton:3", None, "a range is one of"),
        ("ranges: []\ndraw: halton:3", None, "must contain `grid:`"),
    ],
)
def test_draws_that_mean_nothing(content: str, drawn: Draw | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(message)):
        expand([str(file)], "vit", drawn)
