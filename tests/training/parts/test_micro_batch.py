"""``train.micro_batch: auto``: what fits every rank, what a resume uses, and what follows out of memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError, TooBigError
from dist_train.inference.config_check import check
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system.files import read_json, write_json
from dist_train.training.parts.micro_batch import MicroBatch
from dist_train.training.setup import build_setup
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows, state_digest, train

SAYS = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Limited(nn.Module):
    """A model on devices of little memory.

    Args:
        memory: a JSON file: ``limits``, images of a training pass by rank; ``after``, a number of passes of this process after
            which rank 1 has room for ``then`` images only.
    """

    def __init__(self, num_classes: int, memory: str, norm: bool = False) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, num_classes)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.memory, self.passes = memory, 0

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self._allocate(len(images), blank=not images.any())
        return self.head(self.norm(self.body(images)).relu().mean((2, 3)))  # type: ignore[no-any-return]

    def _allocate(self, images: int, blank: bool) -> None:
        rank, room = int(os.environ.get("RANK", "0")), read_json(Path(self.memory), default={})
        self.passes += not blank
        full = rank == 1 and not blank and self.passes > room.get("after", 10**9) and images > room["then"]
        if full or images > room["limits"][rank]:
            raise torch.OutOfMemoryError(SAYS)


@pytest.fixture
def limited(tree: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A run whose two ranks have room for 12 and for 5 of their 12 images."""
    write_json(tmp_path / "memory.json", {"limits": [12, 5]})
    options = {"memory": str(tmp_path / "memory.json")}
    model = {"name": "tests.training.parts.test_micro_batch:Limited", "pretrained": False, "options": options}
    section = {"epochs": 3, "global_batch": 24, "micro_batch": "auto", "ema": 0.9}
    return changed(tree, model=model, train=section, optim={"name": "adamw", "lr": 0.01}, log__every_steps=1)


def _code(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def test_the_largest_that_fits_every_rank_is_used_and_kept(limited: dict[str, Any]) -> None:
    run = train(limited, 2)
    (kept,) = read_json(run / "micro_batch.json")
    assert (kept["micro_batch"], kept["world_size"], kept["why"]) == (4, 2, "the largest that fits cpu")
    assert read_json(run / "provenance.json")["attempts"][0]["micro_batch"] == kept
    given = train(limited, 2, run__name="given", train__micro_batch=4)
    assert state_digest(run) == state_digest(given)
    memory = Path(limited["model"]["options"]["memory"])
    write_json(memory, {"limits": [12, 12]})  # more room must not change a run
    longer = train(limited, 2, train__epochs=4, schedule__on_extend="rescale")
    assert len(read_json(longer / "micro_batch.json")) == 1
    assert state_digest(longer) == state_digest(
        train(limited, 2, run__name="given", train__micro_batch=4, train__epochs=4, schedule__on_extend="rescale")
    )


def test_a_trial_leaves_everything_as_it_was(limited: dict[str, Any]) -> None:
    alone = changed(limited, train__global_batch=12)
    plain = build_setup(parse_config(changed(alone, train__micro_batch=12)), Dist.alone())
    before = torch.get_rng_state()
    tried = build_setup(parse_config(alone), Dist.alone())
    assert torch.equal(torch.get_rng_state(), before)
    assert tried.plan == plain.plan
    for name, value in plain.state.model.state_dict().items():
        assert torch.equal(value, tried.state.model.state_dict()[name]), name


def test_sizes_that_are_possible(limited: dict[str, Any]) -> None:
    def sizes(**options: Any) -> list[int]:
        return MicroBatch(parse_config(changed(limited, **options)), 2)._sizes()

    assert sizes() == [12, 6, 4, 3, 2, 1]
    assert sizes(augment__mixup=0.2) == [12, 6, 4, 2]
    assert sizes(loss__name="soft_f1") == [12]


def test_the_smallest_may_be_too_much(limited: dict[str, Any]) -> None:
    with pytest.raises(TooBigError, match=r"out of memory with 24 image\(s\) on a rank, the fewest"):
        build_setup(parse_config(changed(limited, loss__name="soft_f1")), Dist.alone())
    assert not RunDir(folder(limited)).micro_batch.exists()


def test_out_of_memory_in_a_step_goes_on_with_fewer_images(limited: dict[str, Any]) -> None:
    memory = Path(limited["model"]["options"]["memory"])
    write_json(memory, {"limits": [12, 12], "after": 3, "then": 6})
    tree = changed(limited, checkpoint__every_steps=1)
    assert 0 not in run_ranks(2, _code, tree)
    result = read_result(RunDir(folder(tree)))
    assert (result["status"], result["error"], result["next_micro_batch"]) == ("failed", "oom", 6)
    assert "goes on from the last checkpoint with train.micro_batch=6" in result["message"]
    run = train(tree, 2)
    first, second = read_json(run / "provenance.json")["attempts"]
    assert (first["micro_batch"]["micro_batch"], second["micro_batch"]["micro_batch"]) == (12, 6)
    assert "out of memory with 12 at step " in second["micro_batch"]["why"]
    assert "BatchNorm statistics are over 6 images" in second["micro_batch"]["why"]
    assert [row["step"] for row in rows(run, "train")] == list(range(1, 7))


@pytest.mark.parametrize("allowed", [False, True])
def test_a_batch_norm_that_trains_asks_for_leave(limited: dict[str, Any], allowed: bool) -> None:
    memory = Path(limited["model"]["options"]["memory"])
    write_json(memory, {"limits": [12, 12], "after": 1, "then": 6})
    tree = changed(limited, model__options__norm=True, train__micro_batch_may_change=allowed)
    assert 0 not in run_ranks(2, _code, tree)
    result = read_result(RunDir(folder(tree)))
    assert result["next_micro_batch"] == (6 if allowed else None)
    assert ("set train.micro_batch_may_change=true" in result["message"]) is not allowed


def test_a_check_tries_nothing(limited: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    check(parse_config(limited), 2)
    assert "auto is found at the start; it is at most" in " ".join(capsys.readouterr().out.split())
    assert not folder(limited).exists()


def test_data_parallel_needs_a_number(limited: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"`train\.micro_batch` \(auto\) does not work with DataParallel"):
        build_setup(parse_config(limited), Dist.alone(strategy="dp"))


@pytest.mark.slow
def test_torchrun_starts_again_with_fewer_images(limited: dict[str, Any], tmp_path: Path) -> None:
    write_json(Path(limited["model"]["options"]["memory"]), {"limits": [12, 12], "after": 3, "then": 3})
    (tmp_path / "run.yaml").write_text(json.dumps(changed(limited, checkpoint__every_steps=1)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    command = [*launcher, "-m", "dist_train", "--config", str(tmp_path / "run.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    run = folder(limited)
    assert [entry["micro_batch"] for entry in read_json(run / "micro_batch.json")] == [12, 6, 3]
    assert read_result(RunDir(run))["status"] == "done"
