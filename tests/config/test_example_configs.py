"""The shipped configs are valid, match their headers, and begin with the command to run."""

import subprocess
import sys
from pathlib import Path

import pytest

from dist_train.config import Config, load_config
from dist_train.config.planning import make_plan

CONFIGS = Path(__file__).parents[2] / "configs"
RUNS = sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "cluster.yaml"})  # that one is the launcher's


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_a_config_prints_and_opens_with_its_command(path: Path) -> None:
    command = [sys.executable, "-m", "dist_train", "--config", str(path), "--print-config", "all"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CONFIGS.parent, check=False)
    assert done.returncode == 0, done.stderr
    assert "micro_batch:" in done.stdout
    assert path.read_text().startswith("# yaml-language-server: $schema=dist_train.schema.json\n"), "see docs/config.md"
    header = path.read_text().partition("\nrun:")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    for word in ("Hardware:", "Expected"):
        assert word in header
    cfg = load_config(path)
    assert not Path(cfg.data.root).is_absolute()


def vit() -> Config:
    return load_config(CONFIGS / "vit.yaml")


def test_the_missions_experiment_has_the_missions_numbers() -> None:
    cfg = vit()
    assert (cfg.model.name, cfg.data.image_size, cfg.model.drop_path) == ("vit_base_patch16_384", 384, 0.1)
    assert (cfg.optim.name, cfg.optim.lr, cfg.optim.momentum, cfg.optim.weight_decay) == ("sgd", 1e-4, 0.9, 0.01)
    assert (cfg.augment.mixup, cfg.augment.cutmix, cfg.augment.mix_prob, cfg.augment.mix_switch_prob) == (
        0.8,
        1,
        0.5,
        0.5,
    )
    assert (cfg.augment.erasing, cfg.loss.label_smoothing, cfg.train.precision) == (0.25, 0.1, "amp_fp16")
    assert [op.name for op in cfg.augment.ops] == ["randaugment"]
    assert cfg.train.early_stopping is not None
    plan = make_plan(cfg, 100_000, 4)
    assert (plan.total_steps, plan.global_batch, plan.log_every_steps) == (50 * 781, 128, 100)


def test_head_only_differs_in_the_backbone_alone() -> None:
    full, head = vit().model_dump(), load_config(CONFIGS / "vit_head_only.yaml").model_dump()
    differing = {
        f"{section}.{key}" for section in full for key in full[section] if full[section][key] != head[section][key]
    }
    assert differing == {"run.name", "model.freeze", "model.drop_path"}
