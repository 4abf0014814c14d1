"""Tests mirror the source: a module ``dist_train/a/b.py`` has ``tests/a/test_b.py``, and the other way round."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent

WITHOUT_A_TEST_OF_THEIR_NAME = {
    "dist_train/__main__.py": "starts a run: tests/test_cli.py and tests/whole_runs do so",
    "dist_train/evaluate.py": "a command line: tests/inference/test_evaluate_runs.py goes through it",
    "dist_train/export.py": "a command line: tests/inference/handover/test_onnx_file.py goes through it",
    "dist_train/predict.py": "a command line: tests/inference/test_predict_images.py goes through it",
    "dist_train/model/pickled_tensors.py": "files of weights: tests/model/test_weights.py reads each kind through it",
    "dist_train/training/loop.py": "whole trainings: tests/whole_runs/test_train.py and test_modes.py",
}
"""At most ``MOST_EXCEPTIONS`` modules, each with the reason."""

MOST_EXCEPTIONS = 8

WITHOUT_A_MODULE_OF_THEIR_NAME = {
    "config/test_example_configs.py": "the files in configs/",
    "data/formats/test_made_up_data.py": "made-up tables and folders, read by every reader",
}
"""Test files in a room that test something else than a module, and what."""

FOLDERS_OF_NO_ROOM = {
    "old_runs": "run folders that earlier versions wrote",
    "slurm": "the templates in slurm/, and real jobs",
    "support": "what tests share",
    "whole_runs": "promises that take a whole run",
}


def like_named(module: Path) -> Path:
    """Where the tests of a module stand; both paths are relative, to the root and to ``tests``."""
    room = module.parent.relative_to("dist_train") if module.parts[0] == "dist_train" else module.parent
    return room / f"test_{module.stem.strip('_')}.py"


def modules() -> list[Path]:
    found = [path for package in ("dist_train", "launch") for path in (ROOT / package).rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in found if path.name != "__init__.py")


def test_every_module_has_a_test_file_of_its_name() -> None:
    missing = {str(module): like_named(module) for module in modules() if not (TESTS / like_named(module)).is_file()}
    lines = [f"{path}" for name, path in missing.items() if name not in WITHOUT_A_TEST_OF_THEIR_NAME]
    assert not lines, "these files are missing in tests:\n" + "\n".join(lines)
    assert missing.keys() >= WITHOUT_A_TEST_OF_THEIR_NAME.keys(), "an exception is not needed any more"
    assert len(WITHOUT_A_TEST_OF_THEIR_NAME) <= MOST_EXCEPTIONS


def test_every_test_file_of_a_room_has_its_module() -> None:
    expected = {str(like_named(module)) for module in modules()} | WITHOUT_A_MODULE_OF_THEIR_NAME.keys()
    found = {
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if path.parent != TESTS and path.relative_to(TESTS).parts[0] not in FOLDERS_OF_NO_ROOM
    }
    assert not sorted(found - expected), "no module has these names"
    assert found >= WITHOUT_A_MODULE_OF_THEIR_NAME.keys(), "an exception is not needed any more"


def test_every_test_folder_has_its_room() -> None:
    rooms = {like_named(module).parent for module in modules()}
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("*.py")}
    assert folders - rooms == {Path(name) for name in FOLDERS_OF_NO_ROOM}
