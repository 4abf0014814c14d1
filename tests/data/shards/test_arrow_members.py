"""Arrow files read in place: places, names, labels, what cannot be read; equal weights."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dist_train.data.formats.walk import look_at_root
from dist_train.data.index import scan
from dist_train.data.shards.arrow_members import arrow_members
from dist_train.data.shards.members import Aside
from dist_train.errors import DataError
from tests.data.packing.test_table_source import as_tables, table, write
from tests.support.archives import image_bytes
from tests.support.data_roots import data_config, names
from tests.support.runs import changed, resumes_exactly, state_digest, train

PNG, JPEG = image_bytes(), image_bytes(9, "JPEG")


def members(path: Path) -> tuple[dict[str, bytes], dict[str, int]]:
    content, aside = path.read_bytes(), Aside()
    found = {m.name: content[m.offset : m.offset + m.length] for m in arrow_members(str(path), aside)}
    return found, dict(aside.kinds)


def test_the_index_is_that_of_the_folder(image_folder: Path, tmp_path: Path) -> None:
    root = as_tables(image_folder, tmp_path / "in", ".arrow")
    write(root / "train" / "cache-1234.arrow", table([{"text": "no image"}]))
    folder, found = scan(data_config(image_folder)), scan(data_config(root, format="hf"))
    assert (found.fingerprint, found.classes) == (folder.fingerprint, folder.classes)
    for name in names(found.train)[::5]:
        assert found.images.content(name) == (image_folder / name).read_bytes()  # type: ignore[attr-defined]
    assert any("1 tables that `datasets` keeps as a cache" in note for note in found.notes)
    one = data_config(root / "train" / "data-00000-of-00002.arrow", format="hf", val_fraction=0.3)
    look_at_root(one)
    assert len(scan(one).train)


@pytest.mark.parametrize("form", ["stream", "file"])
@pytest.mark.parametrize("kind", ["struct", "bytes", "large"])
def test_each_value_is_found_at_its_place(tmp_path: Path, kind: str, form: str) -> None:
    contents = [PNG, None, b"", JPEG, PNG * 9]
    image = pa.array(contents, pa.large_binary() if kind == "large" else pa.binary())
    if kind == "struct":
        paths = pa.array(["a/1.png", "2.png", "3.png", "same.jpg", "same.jpg"])
        image = pa.StructArray.from_arrays([image, paths], ["bytes", "path"])
    made = pa.table({"img": image, "class": ["x", "x", "x", "a/b", "a/b"]}).slice(0)
    path = tmp_path / "train.arrow"
    with pa.OSFile(str(path), "wb") as file:
        writer = (pa.ipc.new_stream if form == "stream" else pa.ipc.new_file)(file, made.schema)
        writer.write_table(made, max_chunksize=2)
        writer.close()
    found, aside = members(path)
    first = "x/1.png" if kind == "struct" else "x/train-00000000.png"
    assert found == {
        first: PNG,
        "a_b/train-00000003.jpg": JPEG,
        "a_b/train-00000004.png" if kind != "struct" else "a_b/train-00000004.jpg": PNG * 9,
    }
    assert aside == {"rows without an image or a label": 2}


def test_compressed_values_and_other_columns_are_refused(tmp_path: Path) -> None:
    made = pa.table({"image": [PNG * 50] * 3, "label": [0, 1, 0]})
    path = tmp_path / "train.arrow"
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, made.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream,
    ):
        stream.write_table(made)
    with pytest.raises(DataError, match=r"train.arrow: its values are compressed, .* `dist-train pack FOLDER OUT`"):
        members(path)
    write(path, pa.table({"image": ["a.png"], "label": [0]}))
    with pytest.raises(DataError, match="the images are string, not bytes of files"):
        members(path)
    write(path, pa.table({"image": [PNG]}))
    with pytest.raises(DataError, match="has no column of labels"):
        members(path)


@pytest.mark.parametrize("left", [0, 100, 3000])
def test_a_damaged_table_is_named(tmp_path: Path, left: int) -> None:
    path = tmp_path / "train.arrow"
    write(path, table([{"image": PNG * 20, "label": 1}] * 20))
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match=r"cannot read .*train.arrow"):
        members(path)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_run_ends_with_the_weights_of_the_folder(tree: dict[str, Any], tmp_path: Path, world_size: int) -> None:
    tree = changed(tree, checkpoint__every_steps=2, checkpoint__keep=9, data__workers=1)
    run = train(changed(tree, run__name="folder"), world_size)
    root = as_tables(Path(tree["data"]["root"]), tmp_path / "in", ".arrow")
    tree = changed(tree, data__format="hf", data__root=str(root), run__name="arrow")
    assert state_digest(resumes_exactly(tree, world_size, kept=1)) == state_digest(run)
