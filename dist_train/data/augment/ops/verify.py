"""Whether operations make the same image of the same sample, again and in another process: a resumed run relies on it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dist_train.config.ops.table import OPS
from dist_train.config.sections.augment import OpConfig
from dist_train.config.yaml_text import tuples
from dist_train.data.augment.ops.chain import Chain
from dist_train.data.augment.ops.forms import Place
from dist_train.errors import ConfigError

SAMPLES = 8
LIMIT_S = 300
RULE = (
    "its random numbers must come from the generator that it gets, or from the global ones of Python, NumPy and torch, and it "
    "must remember nothing from image to image (docs/extending.md)"
)


def check_ops(ops: Sequence[OpConfig], place: Place) -> None:
    """Apply each operation to a few images, twice, and the user's own in another process too.

    Raises:
        ConfigError: an operation cannot be made or applied, or makes different images of the same sample.
    """
    chain = Chain(ops, place)
    names = [name for name, _ in chain.parts]
    first = digests(chain, range(SAMPLES))
    _compare(names, first, digests(chain, reversed(range(SAMPLES))), "when it is applied again")
    if any(op.name not in OPS.rows for op in ops):
        _compare(names, first, _elsewhere(ops, place), "in another process")


def digests(chain: Chain, samples: Any) -> list[list[str]]:
    """Return a digest of what each operation makes of each sample: [operations][samples], samples in rising order."""
    found = {sample: chain.each(_image(sample, chain), sample) for sample in samples}
    by_sample = [[_digest(image) for image in found[sample]] for sample in sorted(found)]
    return [list(of_one) for of_one in zip(*by_sample, strict=True)]


def _image(sample: int, chain: Chain) -> Any:
    return np.random.default_rng(sample).integers(0, np.iinfo(chain.dtype).max + 1, chain.shape, dtype=chain.dtype)


def _digest(image: Any) -> str:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8).hexdigest()


def _compare(names: list[str], first: list[list[str]], second: list[list[str]], when: str) -> None:
    for name, one, other in zip(names, first, second, strict=True):
        if one != other:
            raise ConfigError(f"{name} makes another image of the same sample {when}: {RULE}")


def _elsewhere(ops: Sequence[OpConfig], place: Place) -> list[list[str]]:
    """Return the digests as a new Python process finds them."""
    task = {"path": sys.path, "ops": [op.model_dump(mode="json") for op in ops], "place": asdict(place)}
    # A hash of text is another one in each process, unless the user has fixed it.
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise ConfigError(f"`augment.ops` cannot be applied in another process: {last}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _main() -> None:
    task = json.load(sys.stdin)
    sys.path[:] = task["path"]
    ops = [OpConfig.model_validate(tuples(op)) for op in task["ops"]]
    place = Place(**task["place"] | {"colour": tuple(task["place"]["colour"])})
    print(json.dumps(digests(Chain(ops, place), range(SAMPLES))))


if __name__ == "__main__":
    _main()
