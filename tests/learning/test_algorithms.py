"""Deterministic or fast algorithms: chosen for a run, and given back to the program around it."""

import os
from collections.abc import Iterator

import pytest
import torch

from dist_train.config import parse_config
from dist_train.learning.algorithms import restored_algorithms, set_algorithms

MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn


@pytest.fixture(autouse=True)
def given_back() -> Iterator[None]:
    with restored_algorithms():
        yield


def _settings() -> list[object]:
    new = [MATMUL.fp32_precision, CUDNN.conv.fp32_precision, CUDNN.rnn.fp32_precision]  # type: ignore[attr-defined]
    try:
        old: object = (MATMUL.allow_tf32, CUDNN.allow_tf32, torch.get_float32_matmul_precision())
    except RuntimeError as error:  # where somebody has used the new names
        old = str(error)
    flags = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    return [*new, old, *flags, CUDNN.benchmark, fill, os.environ.get("CUBLAS_WORKSPACE_CONFIG")]


def test_deterministic_algorithms_on_a_gpu_need_a_workspace(tree: dict[str, object]) -> None:
    cfg = parse_config(tree)
    set_algorithms(cfg, torch.device("cpu"))
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with restored_algorithms():
        set_algorithms(cfg, torch.device("cuda", 0))
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_new_memory_is_not_filled(tree: dict[str, object]) -> None:
    set_algorithms(parse_config(tree), torch.device("cpu"))
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory


def _nothing() -> None:
    pass


def _old_names() -> None:
    MATMUL.allow_tf32, CUDNN.allow_tf32 = True, False


def _new_names() -> None:
    CUDNN.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]


def _warnings_only() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)


@pytest.mark.parametrize("before", [_nothing, _old_names, _new_names, _warnings_only])
@pytest.mark.parametrize("tf32", [False, True])
def test_what_a_program_has_chosen_comes_back(tree: dict[str, object], before: object, tf32: bool) -> None:
    before()  # type: ignore[operator]
    found = _settings()
    with pytest.raises(KeyError), restored_algorithms():
        set_algorithms(parse_config(tree), torch.device("cuda", 0))
        MATMUL.allow_tf32 = CUDNN.allow_tf32 = tf32
        raise KeyError
    assert _settings() == found
