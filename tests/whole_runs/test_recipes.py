"""The recipes: learning rates, parameter groups and augmentation are those of the libraries that they come from."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from scipy.stats import ks_2samp
from timm.data import create_transform
from timm.data.auto_augment import RandAugment
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torchvision.transforms import v2

from dist_train.config import Config, load_config
from dist_train.config.files.recipes import names
from dist_train.config.plan import Plan
from dist_train.config.planning import make_plan
from dist_train.data.augment.draws import Drawer
from dist_train.data.augment.ops.chain import Chain
from dist_train.data.augment.ops.forms import Place
from dist_train.data.augment.ops.seeded import seeded_generators
from dist_train.learning.optimizers.build import build_optimizer
from dist_train.learning.schedule import lr_factor
from dist_train.seeding import fold_in
from tests.support.everything import EVERYTHING
from tests.support.runs import resumes_exactly

STEPS_PER_EPOCH = 3
PUBLISHED = ("deit3_finetune", "mae_finetune", "timm_a2", "torchvision_vit")
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def config(name: str, folder: Path, *overrides: str) -> Config:
    (folder / "run.yaml").write_text(f"base: recipes/{name}\nrun: {{name: r}}\ndata: {{root: {folder}}}\n")
    return load_config(folder / "run.yaml", list(overrides))


def rates(cfg: Config) -> tuple[list[float], Plan]:
    """The learning rate of every step of a run with a few steps per epoch."""
    plan = make_plan(cfg, STEPS_PER_EPOCH * cfg.train.global_batch, 1)
    return [cfg.optim.lr * lr_factor(cfg.schedule, cfg.optim.lr, plan, step) for step in range(plan.total_steps)], plan


def of_timm(lr: float, warmup_lr: float, min_lr: float, epochs: int, **options: Any) -> list[float]:
    """timm's cosine, step by step, after five epochs of warm-up."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    warm = 5 * STEPS_PER_EPOCH
    schedule = CosineLRScheduler(
        optimizer,
        (epochs - 5) * STEPS_PER_EPOCH,
        lr_min=min_lr,
        warmup_t=warm,
        warmup_lr_init=warmup_lr,
        t_in_epochs=False,
        **options,
    )
    found = []
    for step in range(epochs * STEPS_PER_EPOCH):
        schedule.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("name", names())
def test_a_recipe_needs_only_a_name_and_a_folder(name: str, tmp_path: Path) -> None:
    cfg = config(name, tmp_path)
    assert make_plan(cfg, 50_000, 4).total_steps > 0
    assert not list(tmp_path.glob("r*/"))


def test_rates_of_timm_a2_are_timms(tmp_path: Path) -> None:
    found, _ = rates(config("timm_a2", tmp_path))
    assert np.allclose(found, of_timm(5e-3, 1e-6, 1e-6, 300, warmup_prefix=True), rtol=1e-9)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 5e-3)
    default = CosineLRScheduler(
        optimizer, 300 * STEPS_PER_EPOCH, lr_min=1e-6, warmup_t=15, warmup_lr_init=1e-6, t_in_epochs=False
    )
    largest = 0.0
    for step, rate in enumerate(found):
        default.step_update(step)
        largest = max(largest, abs(rate - optimizer.param_groups[0]["lr"]) / 5e-3)
    assert largest < 0.016, "what the recipe's comment says"


def test_rates_of_deit3_are_timms(tmp_path: Path) -> None:
    found, _ = rates(config("deit3_finetune", tmp_path))
    assert np.allclose(found, of_timm(1e-5, 1e-6, 1e-5, 20, warmup_prefix=True), rtol=1e-9)
    assert found[-1] == pytest.approx(1e-5)


def test_rates_of_mae_are_those_of_its_formula(tmp_path: Path) -> None:
    found, _ = rates(config("mae_finetune", tmp_path))
    peak = 5e-4 * 1024 / 256
    for step, rate in enumerate(found):
        epoch = step / STEPS_PER_EPOCH
        fall = 1e-6 + (peak - 1e-6) / 2 * (1 + math.cos(math.pi * (epoch - 5) / 95))
        assert rate == pytest.approx(peak * epoch / 5 if epoch < 5 else fall, rel=1e-9)


def test_rates_of_torchvisions_vit_are_torchs_at_each_epoch(tmp_path: Path) -> None:
    found, _ = rates(config("torchvision_vit", tmp_path))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.003)
    warm = LinearLR(optimizer, start_factor=0.033, total_iters=30)
    schedule = SequentialLR(optimizer, [warm, CosineAnnealingLR(optimizer, 270)], [30])
    theirs = []
    for _ in range(300):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert np.allclose(found[::STEPS_PER_EPOCH], theirs, rtol=1e-6, atol=1e-12)


def test_the_average_of_torchvisions_vit_is_adjusted_as_by_its_script(tmp_path: Path) -> None:
    ema = config("torchvision_vit", tmp_path).train.ema
    assert ema is not None
    assert ema.decay == pytest.approx(1 - 2e-5 * 4096 * ema.every / 300, abs=5e-6)


def groups(cfg: Config, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Weight decay and factor on the learning rate by the name of the parameter."""
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    found = build_optimizer(cfg.optim, model, frozenset()).param_groups
    return {name_of[p]: (group["weight_decay"], group["lr_scale"]) for group in found for p in group["params"]}


def test_groups_of_mae_are_timms(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", global_pool="avg")
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    theirs = param_groups_layer_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.65)
    expected = {name_of[p]: (group["weight_decay"], group["lr_scale"]) for group in theirs for p in group["params"]}
    found = groups(config("mae_finetune", tmp_path), model)
    assert found == {name: (decay, pytest.approx(scale)) for name, (decay, scale) in expected.items()}


@pytest.mark.parametrize(("recipe", "model"), [("timm_a2", "resnet18"), ("deit3_finetune", "vit_tiny_patch16_224")])
def test_groups_without_decay_are_timms(recipe: str, model: str, tmp_path: Path) -> None:
    module = timm.create_model(model)
    cfg = config(recipe, tmp_path)
    exempt = module.no_weight_decay() if hasattr(module, "no_weight_decay") else ()
    name_of = {parameter: name for name, parameter in module.named_parameters()}
    theirs = param_groups_weight_decay(module, cfg.optim.weight_decay, no_weight_decay_list=exempt)
    expected = {name_of[p]: (group["weight_decay"], 1.0) for group in theirs for p in group["params"]}
    assert groups(cfg, module) == expected


def test_torchvisions_vit_decays_everything(tmp_path: Path) -> None:
    module = torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 16)
    assert set(groups(config("torchvision_vit", tmp_path), module).values()) == {(0.3, 1.0)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_crops_and_flips_are_torchvisions(name: str, tmp_path: Path) -> None:
    draw = Drawer(config(name, tmp_path).augment)
    theirs = v2.RandomResizedCrop(8)  # scale 0.08 to 1, ratio 3/4 to 4/3
    for key in range(50):
        torch.manual_seed(key)
        box = theirs.make_params([torch.zeros(3, 60, 80)])
        found = draw(key, 60, 80)
        assert found.box == (box["top"], box["left"], box["height"], box["width"])
        assert found.flip == bool(torch.rand(()) < 0.5)


@pytest.mark.parametrize("name", PUBLISHED[:3])
def test_areas_of_crops_are_distributed_as_timms(name: str, tmp_path: Path) -> None:
    draw = Drawer(config(name, tmp_path).augment)
    theirs = RandomResizedCropAndInterpolation(224)
    image = Image.fromarray(IMAGE)
    random.seed(0)
    boxes = [theirs.get_params(image, theirs.scale, theirs.ratio) for _ in range(2000)]
    ours = [draw(key, 60, 80).box for key in range(2000)]
    for measure in (lambda box: box[2] * box[3], lambda box: box[3] / box[2], lambda box: box[1]):
        assert ks_2samp([measure(box) for box in boxes], [measure(box) for box in ours if box]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "policy", "interpolation"),
    [
        ("timm_a2", "rand-m7-mstd0.5-inc1", "random"),
        ("deit3_finetune", "rand-m9-mstd0.5-inc1", "bicubic"),
        ("mae_finetune", "rand-m9-mstd0.5-inc1", "bicubic"),
    ],
)
def test_policies_make_the_images_that_timm_makes(name: str, policy: str, interpolation: str, tmp_path: Path) -> None:
    cfg = config(name, tmp_path)
    chain = Chain(cfg.augment.ops, Place(60, 80, (124, 116, 104), cfg.augment.interpolation))
    whole = create_transform(60, is_training=True, auto_augment=policy, interpolation=interpolation, separate=True)
    (theirs,) = [part for part in whole[1].transforms if isinstance(part, RandAugment)]
    compared = 0
    for key in range(12):
        with seeded_generators(fold_in(key, "ops")):
            try:
                expected = np.asarray(theirs(Image.fromarray(IMAGE)))
            except ValueError:  # Pillow 13 refuses to posterize to 0 bits
                continue
        assert np.array_equal(chain(IMAGE, key, ()), expected)
        compared += 1
    assert compared > 8


def test_randaugment_of_torchvisions_vit_is_torchvisions(tmp_path: Path) -> None:
    draw = Drawer(config("torchvision_vit", tmp_path).augment)
    names = {"num_ops": 2, "magnitude": 9, "interpolation": "bilinear", "fill": (0, 0, 0)}
    (chosen,) = config("torchvision_vit", tmp_path).augment.randaugments()
    assert chosen[0].model_dump() == names
    assert all(len(draw(key, 60, 80).codes) == 2 for key in range(5))


def test_a_run_with_everything_on_resumes_bit_for_bit(tree: dict[str, Any]) -> None:
    _resumed(tree, 2)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 4])
def test_a_run_with_everything_on_resumes_on_any_number_of_ranks(tree: dict[str, Any], ranks: int) -> None:
    _resumed(tree, ranks)


def _resumed(tree: dict[str, Any], ranks: int) -> None:
    """Go back to step 4 of 9."""
    sections = {key: {**tree.get(key, {}), **value} for key, value in EVERYTHING.items()}
    sections["optim"] = EVERYTHING["optim"]
    resumes_exactly(tree | sections | {"checkpoint": {"every_steps": 2, "keep": 9}}, ranks, kept=3)
