"""A manifest: the name of its folder, and its way through JSON."""

import json
from dataclasses import asdict

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
    assert Manifest(**json.loads(json.dumps(asdict(manifest)))) == manifest
    assert (asdict(manifest)["format"], asdict(manifest)["sha256"]) == (2, ""), "0.1.0 looks for both, and then refuses"
