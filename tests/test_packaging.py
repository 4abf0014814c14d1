"""A wheel, built from the tracked files and installed outside the clone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dist_train import __version__

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the wheel was installed into, with the scripts in ``bin``."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    names = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    tar = ["tar", "--null", "--ignore-failed-read", "-T-", "-cf-"]
    archive = subprocess.run(tar, cwd=ROOT, input=names.stdout, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-xf-"], cwd=source, input=archive.stdout, check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(target), str(source)]
    subprocess.run(wheel, check=True, capture_output=True)
    (file,) = target.glob("*.whl")
    # Python runs in another folder, with the installed packages first: those of the clone cannot be meant.
    install = [*pip, "install", "-q", "--no-deps", "--no-index", f"--target={target / 'packages'}", str(file)]
    subprocess.run(install, check=True, capture_output=True)
    return target


def run(installed: Path, cwd: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    packages = installed / "packages"
    env = os.environ | {"PYTHONPATH": str(packages), "PATH": f"{packages / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_the_wheel_holds_what_it_needs_and_no_tests(installed: Path) -> None:
    (file,) = installed.glob("*.whl")
    names = zipfile.ZipFile(file).namelist()
    configs = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert {Path(name).name for name in names if name.startswith("dist_train/examples/")} == configs
    recipes = {path.name for path in (ROOT / "dist_train/recipes").glob("*.yaml")}
    assert {Path(name).name for name in names if name.startswith("dist_train/recipes/")} == recipes
    assert {"launch/runs/page.html", "dist_train/inference/reporting/page.html"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"dist_train", "launch", f"dist_train-{__version__}.dist-info"}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("dist-train --help", "usage: dist-train --config FILE"),
        ("dist-train --version", f"dist_train {__version__}"),
        ("dist-train --example", "flowers "),
        ("dist-train --recipes", "vit "),
        ("dist-train evaluate --help", "usage: dist-train evaluate"),
        ("dist-train compare --help", "usage: dist-train compare"),
        ("dist-train wandb-sync --help", "usage: dist-train wandb-sync"),
        ("dist-train status", "no runs in runs"),
        ("dist-train-slurm --help", "usage: dist-train-slurm"),
        ("dist-train slurm --help", "usage: dist-train slurm"),
        ("python -m launch.slurm --help", "usage: dist-train-slurm"),
    ],
)
def test_a_command(installed: Path, tmp_path: Path, command: str, words: str) -> None:
    done = run(installed, tmp_path, *command.replace("python", sys.executable).split())
    assert (done.returncode, done.stderr) == (0, "")
    assert words in done.stdout
    for folder in ("configs/", "launch/", "docs/", "slurm/"):
        assert folder not in done.stdout


def test_from_an_example_to_a_job(installed: Path, tmp_path: Path) -> None:
    example = run(installed, tmp_path, "dist-train", "--example", "flowers")
    (tmp_path / "flowers.yaml").write_text(example.stdout)
    printed = run(installed, tmp_path, "dist-train", "--config", "flowers.yaml", "--print-config")
    assert yaml.safe_load(printed.stdout)["run"]["name"] == "flowers"
    arguments = ["--config=flowers.yaml", "--dry-run", "--no-check", "--nodes=2", "--time=10:00", "--cpus-per-gpu=1"]
    job = run(installed, tmp_path, "dist-train-slurm", *arguments)
    assert job.returncode == 0, job.stderr
    assert "#SBATCH --nodes=2" in job.stdout
    guess = run(installed, tmp_path, "dist-train-slurm", "--dry-run")
    assert guess.stderr == "error: --config FILE is missing; `dist-train --example` lists configs to start from\n"


def test_the_script_finds_modules_of_the_current_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text("raise SystemExit('my_model is imported')\n")
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * len(name) + ord(name[0]) % 7 * 9, 30 * int(name[2]), 0)).save(path)
    (tmp_path / "c.yaml").write_text(
        "{run: {name: mine}, model: {name: 'my_model:net', pretrained: false}, data: {root: data, val_fraction: 0.5}, optim: {lr: 1}, "
        "train: {global_batch: 1}}"
    )
    done = run(installed, tmp_path, "dist-train", "check", "--config=c.yaml")
    assert "my_model is imported" in done.stderr
