"""The test cluster; a missing one is reported clearly."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.scheduler import cluster as slurm
from tests.slurm import lab


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A running SLURM: that of the shell, or that of ``slurm/testcluster up``."""
    before = os.environ.get("SLURM_CONF")
    if before is None:
        lab.cluster_env()
    try:
        if {"low", "high"} <= set(slurm.look().partitions):
            yield
        elif os.environ.get("REQUIRE_SLURM") == "1":
            pytest.fail("REQUIRE_SLURM=1, but no SLURM with partitions low and high answers: slurm/testcluster up")
        else:
            pytest.skip("NO SLURM: jobs are NOT tested; as root, run slurm/testcluster up")
    finally:
        if before is None:
            os.environ.pop("SLURM_CONF", None)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image folder."""
    root = tmp_path_factory.mktemp("slurm-images")
    lab.make_images(root)
    return root


@pytest.fixture(scope="session")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the final weights of a run with two ranks that nothing happens to, outside SLURM."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = lab.make_config(folder, images, steps=lab.STEPS)
    lab.run_with_torchrun(config, procs=2)
    digest = lab.weights(folder / "run")
    assert digest
    return digest
