"""How long ``data.stage`` takes from a store that gives each connection a limited speed: with parts on their way, and without.

    python -m benchmarks.stage_remote --mb 64 --speed 50 --latency 0.05

The store is moto's server on this machine. A proxy before it makes each answer wait for the latency, and longer for its bytes.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import pytest

from dist_train.data.shards.copier import copy_all
from dist_train.data.shards.files import version_of
from dist_train.data.shards.remote import store
from tests.support.failing_proxy import FailingProxy
from tests.support.failing_store import failing_store


class OneByOne(store.RemoteFile):
    """Asks for a part when the last one has been written."""

    def _part(self, place: int, length: int) -> bytes:
        return store.read(self._path, place, length)


SIDES = {"one part after the other": OneByOne, "next parts on their way": store.RemoteFile}


def seconds(root: str, folder: Path, side: type[store.RemoteFile], patch: pytest.MonkeyPatch) -> float:
    """Return how long the copy of an archive takes."""
    patch.setattr(store, "RemoteFile", side)
    path, copy = f"{root}/all.tar", folder / "copy.tar"
    copy.unlink(missing_ok=True)
    began = time.monotonic()
    assert copy_all([(path, str(copy), *version_of(path))])
    return time.monotonic() - began


def limit(proxy: FailingProxy, latency_s: float, bytes_per_s: float) -> None:
    """Make each answer wait as over a network; connections do not share the speed."""

    def wait(request: str) -> None:
        part = 8 * 2**20 if request.startswith("GET") and "all.tar" in request else 0
        time.sleep(latency_s + part / bytes_per_s)

    proxy.fault = wait


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=64, help="size of the archive")
    parser.add_argument("--speed", type=float, default=50, help="of a connection, in MB/s")
    parser.add_argument("--latency", type=float, default=0.05, help="of a request, in seconds")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        source = Path(name, "in", "set")
        source.mkdir(parents=True)
        (source / "all.tar").write_bytes(random.Random(0).randbytes(args.mb * 2**20))
        with failing_store("s3", source, patch) as (root, proxy):
            limit(proxy, args.latency, args.speed * 1e6)
            taken: dict[str, list[float]] = {side: [] for side in SIDES}
            for _ in range(args.rounds):
                for side, kind in SIDES.items():
                    taken[side].append(seconds(root, Path(name), kind, patch))
    for side, found in taken.items():
        middle = statistics.median(found)
        each = ", ".join(f"{one:.2f}" for one in found)
        print(f"{side}: {middle:.2f} s ({args.mb * 2**20 / 1e6 / middle:.0f} MB/s); {each}")


if __name__ == "__main__":
    main()
