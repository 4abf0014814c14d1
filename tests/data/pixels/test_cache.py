"""The cache of decoded images: built once per node, complete or absent, verified, exact."""

import errno
import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from dist_train.config import parse_config
from dist_train.data.bad_images import BadImages
from dist_train.data.decoding.picture import RGB
from dist_train.data.index import scan
from dist_train.data.pixels import pixel_file
from dist_train.data.pixels.build import decode_pieces
from dist_train.data.pixels.cache import cache_path, check_cache, open_cache
from dist_train.data.pixels.images import Cache
from dist_train.data.pixels.originals import Originals
from dist_train.data.pixels.part_file import PartFile
from dist_train.data.pixels.pixel_file import digest_of, end_of_file
from dist_train.distributed.group import Dist, joined
from dist_train.errors import ConfigError, DataError
from dist_train.inference.config_check import check
from dist_train.system.files import read_json
from tests.data.test_loader import equal, first_batches
from tests.support.ranks import collect, run_ranks, start_ranks
from tests.support.runs import changed, rows, state_digest, train

ALONE = Dist.alone()
DEVICE = {"augment": {"device": True, "crop": "random_resized", "randaugment": {}, "erasing": 0.5, "mixup": 0.8}}


@pytest.fixture
def small(tree: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The config of a run on 20 + 6 images of 12 x 10 pixels, with a cache."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 6)):
        for number in range(count):
            path = tmp_path / "data" / split / "ab"[number % 2] / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    return changed(tree, data__root=str(tmp_path / "data"), data__cache=str(tmp_path / "cache"), **DEVICE)


def opened(tree: dict[str, Any], group: Dist = ALONE) -> Cache:
    cfg = parse_config(tree)
    index = scan(cfg.data)
    return open_cache(cfg.data, index, group, BadImages(cfg.data, index).note)


def file_of(tree: dict[str, Any]) -> Path:
    return cache_path(parse_config(tree).data)


def test_it_holds_the_pixels_of_the_files(small: dict[str, Any]) -> None:
    cache = opened(small)
    index = scan(parse_config(small).data)
    assert cache.size == (12, 10)
    for name, split in (("train", index.train), ("val", index.val)):
        read = cache.reader(name)  # type: ignore[arg-type]
        for number in range(len(split)):
            assert np.array_equal(read(number).pixels(), index.images.open(split.name(number)).pixels())
    assert [path.name for path in file_of(small).parent.iterdir()] == [file_of(small).name]


def test_it_is_built_once(small: dict[str, Any]) -> None:
    opened(small)
    written = file_of(small).stat().st_mtime_ns
    opened(small)
    assert file_of(small).stat().st_mtime_ns == written


def test_it_is_built_anew_when_the_data_are_others(small: dict[str, Any]) -> None:
    opened(small)
    Image.new("RGB", (10, 12), "red").save(Path(small["data"]["root"], "train", "a", "00.png"))
    assert opened(small).reader("train")(0).pixels()[0, 0].tolist() == [255, 0, 0]
    assert len(list(file_of(small).parent.iterdir())) == 1


def test_without_one_good_image_there_is_none(small: dict[str, Any]) -> None:
    for path in Path(small["data"]["root"], "train").rglob("*.png"):
        path.write_text("not found")
    with pytest.raises(DataError, match="none of the training images can be decoded"):
        opened(small)


@pytest.mark.parametrize("damage", ["digests", "cut", "empty", "text"])
def test_a_damaged_one_is_built_anew(small: dict[str, Any], damage: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = opened(small).file
    content = bytearray(file_of(small).read_bytes())
    if damage == "digests":
        content[whole.layout.digests_at] ^= 1
    file_of(small).write_bytes({"cut": content[:-3], "empty": b"", "text": b"none"}.get(damage, bytes(content)))
    with caplog.at_level(logging.WARNING):
        assert opened(small).file.digest == whole.digest
    assert "is damaged and will be built again" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_pixels_are_replaced_before_they_are_trained_on(
    small: dict[str, Any], workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    small = changed(small, data__workers=workers)
    right = train(small, run__name="right")
    content = bytearray(file_of(small).read_bytes())
    damaged = bytearray(content)
    damaged[400] ^= 1  # of an image that is not compared at the start
    damaged[24 * 360] ^= 1  # of the validation set
    file_of(small).write_bytes(bytes(damaged))
    capfd.readouterr()
    assert state_digest(train(small, run__name="again")) == state_digest(right)
    assert file_of(small).read_bytes() == bytes(content)


def test_one_of_an_older_version_is_built_again(small: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Before format 2 the file had one digest of all pixels, and the run folder kept it."""
    whole = opened(small).file
    pixels = file_of(small).read_bytes()[: whole.layout.digests_at]
    digest = hashlib.sha256(pixels).hexdigest()
    index = scan(parse_config(small).data)
    told = {"format": 1, "fingerprint": index.fingerprint, "shape": whole.layout.shape, "sha256": digest, "bad": {}}
    text = json.dumps(told).encode()
    file_of(small).write_bytes(pixels + text + len(text).to_bytes(8))
    assert opened(small).file.digest == whole.digest
    assert "was written by an older version, which kept one digest of the whole file, and will be built" in caplog.text


def test_it_is_built_anew_when_images_are_others_of_the_same_size(
    small: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(small["data"]["root"], "train", "a", "00.png")
    for colour, warned in (("red", False), ("lime", True)):
        Image.new("RGB", (10, 12), colour).save(path, "BMP")
        assert opened(small).reader("train")(0).pixels()[0, 0].tolist() == list(ImageColor.getrgb(colour))
        assert ("has other images than the data set and will be built again" in caplog.text) == warned


def test_poisoned_pixels_are_never_trained_on(small: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Somebody put other pixels there, with the digests that fit them and the 16 compared images untouched."""
    right = train(small, run__name="right")
    path, file = file_of(small), opened(small).file
    pixels = bytearray(path.read_bytes()[: file.layout.digests_at])
    pixels[12 * 10 * 3 + 5] ^= 255
    digests = file.digests.copy()
    digests[1] = np.frombuffer(digest_of(np.frombuffer(pixels, np.uint8)[360:720]), np.uint8)
    fingerprint = scan(parse_config(small).data).fingerprint
    poisoned = bytes(pixels) + digests.tobytes() + end_of_file(file.layout, fingerprint, digests)
    path.write_bytes(poisoned)
    path.chmod(0o666)
    assert state_digest(train(small, run__name="open")) == state_digest(right)
    if os.geteuid() == 0:
        path.write_bytes(poisoned)
        os.chown(path, 54321, 54321)
        with pytest.raises(ConfigError, match=r"`data.cache`: .* belongs to another user"):
            opened(small)


def test_a_cache_that_was_replaced_since_the_run_began_is_built_again(
    small: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = tmp_path / "record.json"
    cfg = parse_config(small)
    index = scan(cfg.data)

    def start() -> Cache:
        return open_cache(cfg.data, index, ALONE, BadImages(cfg.data, index).note, record)

    whole = start().file.digest
    assert read_json(record) == {"blake3": whole}
    start()
    assert caplog.text == ""
    for damage in ('{"blake3": "another"}', '{"sha256": "of an older version"}', "[]", "nothing"):
        record.write_text(damage)
        assert start().file.digest == whole
        assert read_json(record) == {"blake3": whole}
    assert caplog.text.count("has other pixels than when this run began and will be built again") == 1
    assert caplog.text.count("the images decode to other pixels than when this run began") == 1


def test_only_this_user_can_read_it(small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    default = changed(small, data__cache=None)
    opened(default)
    path = file_of(default)
    assert [path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777] == [0o600, 0o700]


def test_a_run_whose_cache_is_cut_ends_with_an_error(small: dict[str, Any], tmp_path: Path) -> None:
    """Loader processes and the trainer read it; a mapped file would kill them by SIGBUS."""
    cache = opened(small)
    with open(file_of(small), "r+b") as file:
        file.truncate(0)
    for workers in (0, 2):
        with pytest.raises(DataError, match="it was cut while this run uses it; start the run again"):
            first_batches(small, 1, cache=cache, data__workers=workers)


def test_splits_of_one_folder_do_not_share_a_file(small: dict[str, Any]) -> None:
    assert file_of(small) != file_of(changed(small, data__val_fraction=0.5))
    assert file_of(small) == file_of(changed(small, augment__hflip=0.0))


def test_without_a_key_it_lies_in_the_temporary_folder(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = file_of(changed(small, data__cache=None)).parent
    assert folder.parent == tmp_path
    assert folder.name.startswith("dist_train-")


def test_images_of_several_sizes_are_refused(small: dict[str, Any]) -> None:
    Image.new("RGB", (11, 12)).save(Path(small["data"]["root"], "train", "b", "03.png"))
    words = r"`augment.device` \(true\) needs images of one size: train/b/03.png has 12 x 11 .*resize the files"
    with pytest.raises(DataError, match=words):
        opened(small)
    assert list(file_of(small).parent.iterdir()) == []


def test_bad_images_end_the_run_or_are_replaced(small: dict[str, Any]) -> None:
    for name in ("train/a/00.png", "val/a/00.png"):
        Path(small["data"]["root"], name).write_text("not found")
    with pytest.raises(DataError, match=r"a/00.png: cannot identify .*`data.bad_images=skip`"):
        opened(small)
    skip = changed(small, data__bad_images="skip", data__max_bad_share=0.2)
    cache = opened(skip)
    assert cache.file.bad() == [0, 20]
    with pytest.raises(DataError, match="cannot identify"):
        cache.reader("val")(0)
    from_files, from_cache = (first_batches(skip, 2, cache=given) for given in (None, cache))
    for (_, *labels_and_indices), (_, *others, _draws, _rows) in zip(from_files, from_cache, strict=True):
        assert [one.tolist() for one in labels_and_indices] == [one.tolist() for one in others]
    assert 0 not in [index for batch in from_cache for index in batch[2].tolist()]


def test_too_little_room_is_told_before_anything_is_written(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    check(parse_config(small), 1)
    assert "cache: about 0.0 GB will be written to" in capsys.readouterr().out
    assert not file_of(small).exists()
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage(9, 9, 9000))
        with pytest.raises(
            ConfigError, match=r"`data.cache`: the decoded images need 0.0 GB, .* choose another folder"
        ):
            opened(small)
    opened(small)
    cfg = parse_config(small).data
    assert check_cache(cfg, scan(cfg)).endswith("built already")


def test_a_folder_that_cannot_be_written_is_an_error_of_the_config(small: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"`data.cache`: cannot write .*choose another folder"):
        opened(changed(small, data__cache=str(tmp_path / "file" / "below")))


def test_old_parts_of_killed_runs_are_removed(small: dict[str, Any]) -> None:
    path = file_of(small)
    path.parent.mkdir()
    older, old, young = (path.with_name(f".{path.name}.{end}") for end in ("1.tmp", "2.part", "3.part"))
    for part in (older, old, young):
        part.write_text("part")
    for part in (older, old):
        os.utime(part, (time.time() - 7200,) * 2)
    opened(small)
    assert {part.name for part in path.parent.iterdir()} == {path.name, young.name}


def built_in_part(small: dict[str, Any], images: int) -> None:
    """Build the cache in a process that is killed after so many images."""

    def work() -> None:
        cfg = parse_config(small).data
        index = scan(cfg)
        originals = Originals(index)
        first, layout = originals.first()
        part = PartFile(file_of(small), layout, index.fingerprint)
        for count in decode_pieces(part, originals, BadImages(cfg, index).note, first):
            if count == images:
                os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_killed_build_goes_on_where_it_was(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(pixel_file, "PIECE_BYTES", 4 * 360)
    built_in_part(small, images=10)  # two pieces, and a part of the third
    decoded: list[int] = []
    decode = Originals.pixels

    def noted(self: Originals, place: int) -> RGB:
        decoded.append(place)
        return decode(self, place)

    with monkeypatch.context() as patched:
        patched.setattr(Originals, "pixels", noted)
        cache = opened(small)
    assert sorted(set(decoded) - {0}) == list(range(8, 26))
    assert "an unfinished build has written" in caplog.text
    assert [path.name for path in file_of(small).parent.iterdir()] == [file_of(small).name]
    file_of(small).unlink()
    assert opened(small).file.digest == cache.file.digest


def test_a_killed_build_does_not_go_on_with_images_that_were_replaced(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pixel_file, "PIECE_BYTES", 4 * 360)
    path = Path(small["data"]["root"], "train", "a", "00.png")
    Image.new("RGB", (10, 12), "red").save(path, "BMP")
    built_in_part(small, images=26)
    Image.new("RGB", (10, 12), "lime").save(path, "BMP")
    assert opened(small).pixels(0)[0, 0].tolist() == list(ImageColor.getrgb("lime"))
    assert "has other images than the data set and will be built again" in caplog.text


def test_all_ranks_and_their_processes_build_one_file(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = opened(small).file.digest
    file_of(small).unlink()
    found = run_ranks(2, built_by_a_rank, changed(small, data__workers=2))
    assert [digest for digest, _, _ in found] == [whole] * 2
    pieces = [piece for _, mine, _ in found for piece in mine]
    assert len({process for _, mine, _ in found for _, process in mine}) > 1
    assert sorted(piece for piece, _ in pieces) == list(range(26))  # each once
    assert [bad for _, _, bad in found] == [[], []]
    assert [path.name for path in file_of(small).parent.iterdir()] == [file_of(small).name]


def built_by_a_rank(tree: dict[str, Any]) -> tuple[str, list[tuple[int, int]], list[int]]:
    """Return the digest of the cache, and the pieces that this rank's processes have decoded, each with the process."""
    pixel_file.PIECE_BYTES = 1
    cfg = parse_config(tree)
    reader, writer = os.pipe()
    finish = PartFile.finish_piece

    def noted(self: PartFile, piece: int, digests: list[bytes]) -> None:
        time.sleep(0.05)
        os.write(writer, json.dumps([piece, os.getpid()]).encode() + b"\n")
        finish(self, piece, digests)

    PartFile.finish_piece = noted  # type: ignore[method-assign]
    with joined(cfg.distributed) as group:
        cache = opened(tree, group)
    os.close(writer)
    with open(reader) as lines:
        mine = [(piece, process) for piece, process in map(json.loads, lines)]
    return cache.file.digest, mine, cache.file.bad()


def test_two_runs_at_once_build_one_file(small: dict[str, Any]) -> None:
    runs = [start_ranks(1, built_by_a_rank, changed(small, data__workers=1)) for _ in range(2)]
    found = [collect(ranks)[0] for ranks in runs]
    assert found[0][0] == found[1][0] == opened(small).file.digest
    assert sorted(piece for _, mine, _ in found for piece, _ in mine) == list(range(26))


def test_a_full_disk_ends_the_build_and_leaves_nothing(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for workers in (0, 2):
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            with pytest.raises(ConfigError, match=r"`data.cache`: cannot write .*: No space left on device; choose"):
                opened(changed(small, data__workers=workers))
        assert list(file_of(small).parent.iterdir()) == []


def test_batches_are_the_same_with_loader_processes_and_from_any_step(small: dict[str, Any]) -> None:
    cache = opened(small)
    small = changed(small, train__global_batch=4)
    here = first_batches(small, 3, cache=cache)
    assert here[0][0].shape == (4, 12, 10, 3)
    assert len(here[0]) == 5
    assert equal(first_batches(small, 3, cache=cache, data__workers=2), here)
    assert equal(first_batches(small, 1, position=2, cache=cache), here[2:])
    assert not equal(first_batches(small, 3, cache=cache, run__seed=1), here)


def test_ranks_share_one_and_a_resumed_run_is_exact(small: dict[str, Any]) -> None:
    tree = changed(small, train__global_batch=8, checkpoint={"every_steps": 1, "keep": 100})
    straight = train(tree, 2, run__name="straight")
    resumed = train(tree, 2, run__name="resumed")
    for name in sorted((resumed / "checkpoints").iterdir())[1:]:  # as if killed after step 1
        shutil.rmtree(name)
    (file,) = file_of(small).parent.iterdir()
    file.unlink()  # as on another node
    train(tree, 2, run__name="resumed")
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
