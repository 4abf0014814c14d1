"""Run folders that somebody damaged, or made to harm whoever reads them: many kinds, each beside good runs."""

import copy
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

DEEP = "[" * 100_000
GIB = 1 << 30
ESCAPE = "\x1b]0;owned\x07\x1b[2J"
FORMULA = "=HYPERLINK(1)"
MARKUP = "</script><img src=x onerror=alert(1)>"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}], {new}: 1}}\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

JSON_FILES = ("result.json", "provenance.json", "classes.json", "decode_rules.json", "launch.json", "starts.json")
FILES = (*JSON_FILES, "config.yaml", "metrics.jsonl", "predictions.npz", "data_index.gz")
TEXTS: dict[str, bytes] = {
    "deep": DEEP.encode(),
    "list": b"[]",
    "mapping": b"{}",
    "number": b"5",
    "null": b"null",
    "word": b'"word"',
    "digits": b"9" * 5000,
    "mapping of digits": b'{"step": ' + b"9" * 4000 + b"}",
    "infinity": b'{"step": 1e999, "status": "done"}',
    "bytes": b"\xff\xfe\x00\x80",
    "empty": b"",
    "zeros": bytes(5000),
    "list of wrong": b'[5, null, [], {"job": []}, {"job": "--help", "restart": "x"}]',
    "deep inside": b'{"best": ' + b"[" * 900 + b"]" * 900 + b"}",
}
YAMLS: dict[str, str] = {
    "bomb": BOMB,
    "merges": MERGES,
    "deep": DEEP,
    "loop": "a: &a [*a]\n",
    "object": "a: !!python/object/apply:os.system ['touch owned']\n",
    "hexadecimal": f"optim: {{lr: 0x{'f' * 9000}}}\n",
    "many keys": "".join(f"k{number}: 1\n" for number in range(20_000)),
    "long key": f"{'k' * 500_000}: 1\n",
    "set": "model: !!set {a, b}\noptim: {lr: 2020-01-01}\ndata: !!binary aGk=\n",
    "numbers as keys": "1: {2: 3}\nnull: 4\n[5, 6]: 7\n",
}
VALUES: tuple[Any, ...] = ([], {}, f"{MARKUP}{ESCAPE}", -1, 10**300, float("inf"), None, True, FORMULA, [[[[1]]]], 0.5)
ROWS: dict[str, str] = {
    "types": '{"step": 3, "split": "val", "top1": "x", "epoch": [], "seconds": "s"}\n'
    '{"step": 4, "split": "train", "images_per_s": "fast", "epoch": {}, "loss": true}\n',
    "digits": f'{{"step": 3, "split": "val", "top1": {"9" * 400}, "loss": 1e999}}\n',
    "step of digits": f'{{"step": {"9" * 400}, "split": "val", "top1": 1}}\n',
    "splits": "".join(f'{{"step": 1, "split": "s{number}", "loss": 1}}\n' for number in range(5000)),
    "columns": json.dumps({"step": 1, "split": "val"} | {f"c{number}": 1 for number in range(5000)}) + "\n",
    "names": json.dumps({"step": 1, "split": f"{MARKUP}{ESCAPE}", FORMULA: 1, "constructor": 2, "$x^$": 3}) + "\n",
    "negative": '{"step": -5, "split": "train", "images_per_s": 0, "loss": NaN}\n',
    "dictionary": '{"step": 3, "split": "__proto__", "toString": 1, "loss": 1}\n',
}


def hostile_copies(good: Path, folder: Path, every: int = 1, kinds: Collection[str] = ()) -> list[Path]:
    """Make copies of a good run, each with one fault, and return their folders.

    Args:
        every: of so many faults one is made,
        kinds: and those of these names.
    """
    made = []
    for number, (name, damage) in enumerate(faults(good)):
        if number % every and name not in kinds:
            continue
        path = folder / f"{number:03d} {name}"
        shutil.copytree(good, path, ignore=shutil.ignore_patterns("checkpoints", "*.safetensors"))
        damage(path)
        made.append(path)
    return made


def faults(good: Path) -> Iterator[tuple[str, Callable[[Path], Any]]]:
    """Yield the name of each fault and the function that makes it in a run folder."""
    for file in JSON_FILES:
        for name, content in TEXTS.items():
            yield f"{file} {name}", _content(file, content)
        if (good / file).exists():
            for place, tree in wrong_values(json.loads((good / file).read_text())):
                yield f"{file} {place}", _content(file, json.dumps(tree).encode())
    for name, text in YAMLS.items():
        yield f"config.yaml {name}", _content("config.yaml", text.encode())
    tree = yaml.safe_load((good / "config.yaml").read_text())
    for place, wrong in wrong_values(tree):
        yield f"config.yaml {place}", _dumped("config.yaml", wrong)
    for name, text in ROWS.items():
        yield f"metrics.jsonl {name}", _content("metrics.jsonl", text.encode())
    for name, content in predictions():
        yield f"predictions.npz {name}", _content("predictions.npz", content)
    for file in FILES:
        yield from _kinds_of_file(file)
    for name in (MARKUP.replace("/", ""), ESCAPE, f"{FORMULA}\nline", "\udcff bytes", "$x^$"):
        yield name, lambda path: None


def wrong_values(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield copies of a tree in which one value, at any depth, is of another kind; the kinds take turns."""
    for number, keys in enumerate(_places(tree)):
        for value in (VALUES[number % len(VALUES)], VALUES[(number * 3 + 1) % len(VALUES)]):
            wrong = copy.deepcopy(tree)
            parent = wrong
            for key in keys[:-1]:
                parent = parent[key]
            parent[keys[-1]] = value
            yield f"{'.'.join(map(str, keys))} {type(value).__name__}", wrong


def _places(tree: Any) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (key,)
        yield from ((key, *rest) for rest in _places(value))


def predictions() -> Iterator[tuple[str, bytes]]:
    """Yield files of predictions that no run writes."""
    ok, none = np.zeros(3, np.int32), np.array([], dtype=np.str_)
    for name, arrays in {
        "negative": (ok - 5, ok),
        "huge": (np.full(3, 2**31 - 1), ok),
        "two axes": (ok[None], ok[None]),
        "scalars": (np.int64(1), np.int64(1)),
        "floats": (ok + 0.5, ok),
        "words": (np.array(["a"] * 3), ok),
        "lengths": (ok, ok[:1]),
        "complex": (ok * 1j, ok),
    }.items():
        yield name, _npz(step=np.int64(1), pred=arrays[0], label=arrays[1], paths=none)
    yield (
        "markup",
        _npz(step=np.int64(1), pred=ok, label=np.array([0, 0, 1]), paths=np.array([MARKUP, ESCAPE, FORMULA])),
    )
    yield "step", _npz(step=np.array([1, 2]), pred=ok, label=ok, paths=none)
    yield "pickle", _npz(step=np.int64(1), pred=np.array([None, {}], dtype=object), label=ok, paths=none)
    yield "bomb", _npz(step=np.int64(1), pred=np.zeros(40_000_000, np.int64), label=ok, paths=none)
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        for member in ("step", "pred", "label", "paths"):
            head = "{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999,), }".ljust(117) + "\n"
            archive.writestr(f"{member}.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode())
    yield "shape", huge.getvalue()


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _content(file: str, content: bytes) -> Callable[[Path], Any]:
    return lambda path: (path / file).write_bytes(content)


def _dumped(file: str, tree: Any) -> Callable[[Path], Any]:
    return lambda path: (path / file).write_text(yaml.safe_dump(tree))


def _kinds_of_file(file: str) -> Iterator[tuple[str, Callable[[Path], Any]]]:
    def replaced(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def damage(path: Path) -> None:
            (path / file).unlink(missing_ok=True)
            make(path / file)

        return damage

    yield f"{file} missing", replaced(lambda path: None)
    yield f"{file} folder", replaced(lambda path: path.mkdir())
    yield f"{file} pipe", replaced(os.mkfifo)
    yield f"{file} endless", replaced(lambda path: path.symlink_to("/dev/zero"))
    yield f"{file} loop", replaced(lambda path: path.symlink_to(path.name))
    yield f"{file} large", lambda path: _sparse(path / file)


def _sparse(path: Path) -> None:
    with open(path, "ab") as file:
        file.truncate(GIB)
