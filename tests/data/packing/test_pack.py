"""The command ``pack``: sizes, repetition, an interruption, what is refused."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dist_train.data.packing.pack import MB, main, pack
from dist_train.errors import DataError
from tests.support.archives import files_below


def contents(out: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as archive:
            found |= {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    return found


def large(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("train/a/1", "train/a/2", "train/b/3", "val/a/4", "test/b/5", "aside/b/6"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(rng.bytes(700_000))
    (folder / "train" / "a" / "notes.txt").write_text("not packed")
    return folder


def test_archives_have_the_size_and_all_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = large(tmp_path / "in"), tmp_path / "out"
    assert main([str(folder), str(out), "--shard-mb", "1"]) == 0
    expected = {name: content for name, content in files_below(folder).items() if name.endswith(".png")}
    assert contents(out) == expected
    assert [path.name for path in sorted(out.iterdir())] == [
        "data-00000.tar", "test-00000.tar", "train-00000.tar", "train-00001.tar", "train-00002.tar", "val-00000.tar",
    ]  # fmt: skip
    said = capsys.readouterr()
    assert f"6 images (4.2 MB) in 6 archives: data.format=tar data.root={out}" in said.out
    assert "left aside: 1 files or rows that are no images" in said.err


def test_an_interrupted_pack_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = large(tmp_path / "in"), tmp_path / "out"
    replace, left = os.replace, iter((True, True, False))

    def interrupted(*args: str) -> None:
        if not next(left):
            raise KeyboardInterrupt
        replace(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", interrupted)
        pack(folder, out, MB)
    assert len(list(out.glob("*.part"))) == 1
    first = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    pack(folder, out, MB)
    assert "in 6 archives, 2 of them from before" in capsys.readouterr().out
    assert all((out / name).stat().st_mtime_ns == changed for name, changed in first.items())
    assert not list(out.glob("*.part"))
    assert len(contents(out)) == 6


def test_what_is_refused(tmp_path: Path) -> None:
    folder, out = large(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(DataError, match="choose a folder outside it"):
        pack(folder, folder / "out", MB)
    with pytest.raises(SystemExit):
        main([str(folder), str(out), "--shard-mb", "0"])
    with pytest.raises(DataError, match="holds no images"):
        pack(_empty(tmp_path), out, MB)
    pack(folder, out, MB)
    (folder / "train" / "a" / "1.png").write_bytes(bytes(700_001))
    with pytest.raises(DataError, match=r"train-00000.tar has other images than its source has now"):
        pack(folder, out, MB)
    with pytest.raises(DataError, match="holds other archives"):
        pack(folder / "val", out, MB)


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir(exist_ok=True)
    return folder / "empty"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = large(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (out / "train-00000.tar.part").symlink_to("/dev/full")
    assert main([str(folder), str(out)]) == 2
    assert "No space left on device; finished archives stay, call it again" in capsys.readouterr().err


def test_the_progress_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist_train.system.progress.REPORT_EVERY_S", -1.0)
    assert main([str(large(tmp_path / "in")), str(tmp_path / "out"), "--shard-mb", "1"]) == 0
    said = capsys.readouterr().out
    assert f"packing {tmp_path / 'in'}: 3 of 6 images (50%) after 0 s" in said
