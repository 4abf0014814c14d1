"""The command line, and the cluster's file of defaults."""

from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from launch.jobs import options


def test_a_site_file_gives_defaults_and_the_command_line_wins(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        "nodes: 4\ntime: 4:00:00\nsetup: [module load cuda, module load nccl]\n"
        "env: {A: 1}\nno_snapshot: true\nqos: null\nreservation: weekly\n"
    )
    both = options.parse(["--cluster-config", str(site), "--nodes", "2", "optim.lr=1"])
    alone = options.parse(["--cluster-config", str(site)])
    assert (alone.nodes, alone.time) == (4, "4:00:00")
    assert (both.nodes, both.time, both.no_snapshot, both.qos, both.reservation) == (2, "4:00:00", True, None, "weekly")
    assert both.setup == ("module load cuda", "module load nccl")
    assert both.env == (("A", "1"),)
    assert both.overrides == ("optim.lr=1",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gpu_per_node: 4", "`gpu_per_node` is not an option; did you mean `gpus_per_node`"),
        ("zzz: 4", "`zzz` is not an option; use one of: config, nodes, "),
        ("[nodes]", "must contain options such as `nodes: 2`"),
        ("nodes: [", "cannot read --cluster-config"),
    ],
)
def test_a_wrong_site_file(tmp_path: Path, text: str, words: str) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(text + "\n")
    with pytest.raises(ConfigError, match=words):
        options.parse(["--cluster-config", str(site)])


def test_the_last_line_that_says_something() -> None:
    assert options.last_line("Traceback\nValueError: no\n\n") == "ValueError: no"
    assert options.last_line("") == ""


@pytest.mark.parametrize("option", ["--container", "--partition", "--sweep", "--cluster-config", "--setup", "--config"])
def test_an_empty_shell_variable_is_not_the_default(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        options.parse(["--config", "a.yaml", option, ""])
    assert left.value.code == 2
    assert f"error: {option} has an empty value (an empty shell variable?); leave it out" in capsys.readouterr().err
