"""A manifest: the name of its folder, and its way through JSON."""

import json
from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from dist_train.checkpoint.manifest import Manifest


def _manifest(step: int, evaluated: bool = False) -> Manifest:
    return Manifest(
        step,
        evaluated,
        world_size=2,
        data_fingerprint="f",
        config={"optim.lr": 0.1, "data.mean": None},
        total_steps=20,
        schedule_starts=[0, 5],
    )


def test_names_sort_by_step_and_then_by_evaluation() -> None:
    order = [_manifest(9), _manifest(9, True), _manifest(10), _manifest(10, True), _manifest(99_999_999)]
    names = [manifest.name for manifest in order]
    assert names == sorted(names)
    assert names[:2] == ["step_00000009", "step_00000009-evaluated"]


def test_it_comes_back_from_json() -> None:
    manifest = _manifest(3, True)
    assert Manifest.parse(json.dumps(asdict(manifest))) == manifest
    assert (asdict(manifest)["format"], asdict(manifest)["sha256"]) == (2, ""), "0.1.0 looks for both, and then refuses"


def test_every_field_is_accepted_with_and_without_those_that_older_versions_lack() -> None:
    """A field that is added later must not make all checkpoints look damaged."""
    full = replace(_manifest(3), bytes=7, digest="d", sha256="s")
    assert None not in asdict(full).values(), "give the new field a value here"
    for manifest in (full, replace(full, total_steps=None, schedule_starts=None)):
        assert Manifest.parse(json.dumps(asdict(manifest))) == manifest


@pytest.mark.parametrize("field", [field.name for field in fields(Manifest)])
@pytest.mark.parametrize("wrong", [0.5, [None], [[1]], {}, "x", True])
def test_a_value_of_another_kind_is_damage(field: str, wrong: Any) -> None:
    good = asdict(_manifest(3))
    if type(wrong) is type(good[field]) and not isinstance(wrong, list):
        return
    with pytest.raises(ValueError, match=f"no manifest: {field} cannot be"):
        Manifest.parse(json.dumps(good | {field: wrong}))


@pytest.mark.parametrize("text", ["[]", "5", "null", "[" * 100_000, '{"step": 1}', "{}", '{"step": -1}'])
def test_what_no_run_wrote_is_no_manifest(text: str) -> None:
    with pytest.raises(ValueError, match="no manifest"):
        Manifest.parse(text)
    with pytest.raises(ValueError, match="no manifest: step cannot be -1"):
        Manifest.parse(json.dumps(asdict(_manifest(-1))))
