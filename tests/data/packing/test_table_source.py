"""Hugging Face data sets on disk as archives: parquet, save_to_disk, names, labels, damage."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dist_train.data.index import scan
from dist_train.data.packing.pack import MB, main, pack
from dist_train.data.packing.table_source import TableSource, is_table_folder
from dist_train.errors import DataError
from tests.support.archives import files_below, image_bytes
from tests.support.data_roots import data_config, names

PNG = image_bytes()


def table(rows: list[dict[str, Any]], classes: list[str] | None = None) -> pa.Table:
    """Return rows as ``datasets`` writes them, with the names of the classes in the metadata."""
    made = pa.Table.from_pylist(rows)
    if classes is None:
        return made
    features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(path: Path, made: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(made, path, row_group_size=7)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, made.schema) as stream:
            stream.write_table(made, max_chunksize=7)


def as_tables(images: Path, output: Path, ending: str) -> Path:
    classes = sorted(path.name for path in (images / "train").iterdir())
    for split in ("train", "val"):
        files = files_below(images / split)
        rows = [
            {"image": {"bytes": files[name], "path": name.split("/")[1]}, "label": classes.index(name.split("/")[0])}
            for name in sorted(files, key=lambda name: name.split("/")[1])
        ]
        folder = output / "data" if ending == ".parquet" else output / split
        for number in range(2):
            write(
                folder / f"{split if ending == '.parquet' else 'data'}-{number:05d}-of-00002{ending}",
                table(rows[number::2], classes),
            )
    return output


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_archives_made_of_tables_are_the_folder(image_folder: Path, tmp_path: Path, ending: str) -> None:
    tables = as_tables(image_folder, tmp_path / "in", ending)
    assert main([str(tables), str(tmp_path / "out")]) == 0
    folder, found = scan(data_config(image_folder)), scan(data_config(tmp_path / "out", format="tar"))
    assert (found.fingerprint, found.classes) == (folder.fingerprint, folder.classes)
    name = names(found.train)[7]
    assert found.images.content(name) == (image_folder / name).read_bytes()  # type: ignore[attr-defined]


def test_rows_without_path_or_with_the_same_get_numbers(tmp_path: Path) -> None:
    same = [{"image": {"bytes": PNG, "path": "image.png"}, "label": "a/b"} for _ in range(2)]
    write(tmp_path / "train.parquet", table([*same, {"image": {"bytes": PNG, "path": None}, "label": "c"}]))
    assert [name for name, _ in TableSource(tmp_path).images()] == [
        "train/a_b/00000000-image.png", "train/a_b/00000001-image.png", "train/c/00000002.png",
    ]  # fmt: skip


def test_plain_bytes_and_rows_without_a_label(tmp_path: Path) -> None:
    write(tmp_path / "test" / "0.parquet", table([{"img": PNG, "fine_label": label} for label in (3, -1, None)]))
    write(tmp_path / "data.parquet", table([{"img": image_bytes(1, "JPEG"), "fine_label": 3}]))
    source = TableSource(tmp_path)
    found = dict(source.images())
    assert list(found) == ["3/00000000.jpg", "test/3/00000000.png"]
    assert source.left_aside == 2
    assert source.read("test/3/00000000.png") == PNG


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": "a", "label": 1}], "has no column of images"),
        ([{"image": PNG, "name": "a"}], "has no column of labels"),
    ],
)
def test_columns_that_are_missing(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    write(tmp_path / "train.parquet", table(rows))
    with pytest.raises(DataError, match=words):
        pack(tmp_path, tmp_path.parent / "out", MB)


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_a_damaged_table_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"train{ending}"
    write(path, table([{"image": PNG, "label": 1}] * 20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"cannot read .*train{ending}: .*; download it again"):
        list(TableSource(tmp_path).images())


def test_a_folder_of_images_is_none_of_tables(image_folder: Path) -> None:
    assert not is_table_folder(image_folder)
