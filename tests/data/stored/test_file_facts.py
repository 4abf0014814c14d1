"""Sizes and times of files, in one thread and in many."""

from pathlib import Path

import pytest

from dist_train.data.stored import slow_disks
from dist_train.data.stored.file_facts import file_sizes, sizes_of
from dist_train.data.stored.survey import surveyed
from dist_train.errors import DataError


def test_a_root_that_has_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the folder .*/gone: No such file or directory"):
        file_sizes(str(tmp_path / "gone"), ["1.png"])


@pytest.mark.parametrize("slow_s", [slow_disks.SLOW_S, -1])
def test_sizes_of_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_s: float) -> None:
    """One thread and many return the same sizes and times; a missing file has none."""
    monkeypatch.setattr(slow_disks, "SLOW_S", slow_s)
    names = [f"folder/{number}" for number in range(300)]
    (tmp_path / "folder").mkdir()
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes(number))
    (tmp_path / "link").symlink_to("nowhere")
    absolute = str(tmp_path / "folder" / "7")
    with surveyed() as survey:
        assert [*sizes_of(str(tmp_path), names)] == [*range(300)]
        assert [*sizes_of(str(tmp_path), ["folder", "a\0b", absolute, "absent"])] == [None, None, 7, None]
    assert survey.changed_ns == {name: (tmp_path / name).stat().st_mtime_ns for name in [*names, absolute]}
    with pytest.raises(DataError, match="/link: No such file or directory; it is a broken link"):
        file_sizes(str(tmp_path), [*names, "link", "absent"])
