"""The files of all ranks are as one file; what does not belong together is refused."""

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dist_train.checkpoint.direct_writer import payload_of
from dist_train.checkpoint.format import lay_out
from dist_train.checkpoint.sharded.header import excerpt
from dist_train.checkpoint.sharded.joined import Joined
from dist_train.checkpoint.stored import load, newest
from tests.support.shares import equal, save_shares
from tests.support.states import state_of

SHAPES = st.lists(st.integers(0, 5), max_size=3)
TENSORS = st.lists(
    st.tuples(SHAPES, st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool])), max_size=4
)


def _tensor(shape: list[int], dtype: torch.dtype) -> Tensor:
    return torch.randint(0, 2 if dtype == torch.bool else 100, shape).to(dtype)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=TENSORS, ranks=st.integers(1, 4), others=st.integers(1, 4))
def test_what_n_ranks_write_m_ranks_read_and_one_file_would_hold(
    tmp_path: Path, kinds: list[tuple[list[int], torch.dtype]], ranks: int, others: int
) -> None:
    folder, best = tmp_path / "checkpoints", tmp_path / "best.safetensors"
    shutil.rmtree(folder, ignore_errors=True)
    state = {
        "model": {f"w{place}": _tensor(*kind) for place, kind in enumerate(kinds)},
        "rate": (0.1, None),
        3: "three",
    }
    save_shares(folder, state, ranks, best=best)
    found = newest(folder)
    assert found is not None
    assert equal(load(found[0]), state)
    for name, tensor in load(found[0], by_rows=True)["model"].items():
        whole = state["model"][name]  # type: ignore[index, call-overload]
        rows = -(-len(whole) // others) if whole.ndim else 0
        for rank in range(others if rows else 0):
            begin, end = min(rank * rows, len(whole)), min((rank + 1) * rows, len(whole))
            mine = tensor[begin:end] if isinstance(tensor, Tensor) else tensor.between(begin, end)
            assert equal(mine, whole[begin:end])
    layout = lay_out(state)
    joined = Joined([found[0] / name for name, _, _ in found[1].files])
    assert joined.header == layout.header
    head, ranges = excerpt(layout.header, "model")
    assert best.read_bytes() == head + b"".join(bytes(b) for a in ranges for b in payload_of(layout, *a))


def test_only_the_bytes_that_are_asked_for_are_read(tmp_path: Path) -> None:
    save_shares(tmp_path / "checkpoints", {"a": torch.arange(9, dtype=torch.uint8)}, 3)
    joined = Joined(
        [tmp_path / "checkpoints" / "step_00000001" / f"state.{rank}-of-3.safetensors" for rank in range(3)]
    )
    for begin in range(10):
        for end in range(begin, 10):
            assert b"".join(joined.payload(begin, end)) == bytes(range(begin, end))


@pytest.mark.parametrize("wrong", ["missing", "twice", "of another run", "more"])
def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, wrong: str) -> None:
    for name, state in {
        "one": state_of(1),
        "other": {"model": {"a": torch.ones(4, 5)}},
        "more": {"new": torch.ones(3)},
    }.items():
        save_shares(tmp_path / name, state, 2)
    first, second = (tmp_path / "one" / "step_00000001" / f"state.{rank}-of-2.safetensors" for rank in range(2))
    folder = {"of another run": "other", "more": "more"}.get(wrong, "one")
    files = {"missing": [first], "twice": [first, first]}.get(
        wrong, [first, tmp_path / folder / second.parent.name / second.name]
    )
    Joined([first, second])
    with pytest.raises(ValueError, match=r"are not the whole tensor|has no state\.new"):
        Joined(files)
