"""Disturb a run at random, start it again, until it is done; weights, rows and published files must be the undisturbed ones.

    python -m tests.whole_runs.fuzz --kills 200 --seed 0 --torchrun 0.25 --json benchmarks/results/fuzz.json

The faults are in ``fuzz_faults``: signals and SIGKILL at a random moment (which hits start-up and steps), while the writer is
at work, during an evaluation; damage to the newest checkpoint between two starts; and what a machine may do to a run. Most ranks
are forked with torch imported, so that faults hit the training and not the start of Python; the share ``--torchrun`` of the starts
is real. As root, every second forked start has a /dev/shm of 64 MB, as in a container of Docker, and runs lie on several kinds of
file systems. Every start must end (a watchdog prints the stacks of one that hangs), and ``result.json`` must say why it ended
if a process was left to write it. What SLURM adds is in benchmarks/slurm_faults.py.
"""

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from dist_train.data.packing.pack import MB, pack
from dist_train.drill.faults import Traces
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from tests.support.failing_store import failing_store
from tests.support.fuzz_starts import Starts
from tests.support.images import make_image_folder
from tests.support.runs import changed, folder, published, rows, state_digest, train
from tests.support.shm import CAN_MOUNT
from tests.support.surroundings import own_mounts, places
from tests.whole_runs.fuzz_faults import UNGRACEFUL, Start, kinds
from tests.whole_runs.fuzz_recipes import CNN, ODD, RECIPES, TURNS, VIT, config, odd, prepared
from tests.whole_runs.fuzz_tally import DAMAGE, GRACEFUL, Tally


class Fuzz:
    """Runs that are disturbed by turns.

    Args:
        every: draw from all faults and models; else from signals, and from models of timm.
        recipe: every run has this one of ``RECIPES``.
        only, disk: draw from the faults and the file systems whose names have this word.
        given: further keys of the config of every run.
        data: keys of that of the disturbed runs, which say where their images lie, if not in the folder.
    """

    def __init__(
        self, seed: int, starts: Starts, every: bool, recipe: str = "", only: str = "", disk: str = "",
        given: Mapping[str, Any] = MappingProxyType({}), data: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.rng, self.starts, self.every, self.recipe = random.Random(seed), starts, every, recipe
        self.images, self.prepared, self.data = starts.output / "images", given, data
        self.tally = Tally()
        self.faults = {name: hit for name, hit in kinds(starts, every).items() if only in name}
        self.disks = sorted(name for name in starts.places if disk in name)
        if not self.faults or not self.disks:
            raise SystemExit(f"this machine has no fault {only!r} (of {', '.join(kinds(starts, every))}) on {disk!r}")
        self._straight: dict[tuple[int, str], tuple[str, list[dict[str, Any]], dict[str, str]]] = {}

    def one_run(self, tree: dict[str, Any], world_size: int, disk: str, most: int) -> Path:
        """Disturb one run until it is done, or ``most`` faults have been; then let it end in peace."""
        traces, done = Traces(RunDir(folder(tree))), 0
        while traces.status() != "done":
            workers = self.rng.choice((0, 0, 1))  # their number may change from start to start
            mine = changed(tree, data__workers=workers)
            if done == most:
                self.starts.wait_for_end(self.starts.forked(mine, world_size))
                assert traces.status() == "done", f"an undisturbed start failed:\n{self.starts.said()}"
                break
            start = Start(
                self.rng, self.starts, mine, world_size, traces, disk, traces.flights(), traces.number()
            )  # fmt: skip
            name = self._draw(disk)
            began = time.monotonic()
            if self.faults[name](start):
                done += 1
                self.tally.note(name, start)
                told = read_result(traces.run)
                line = f"{told.get('status')}, {told.get('message')}"
                print(f"  {time.monotonic() - began:.0f} s: {name}: {line[:150]}", flush=True)
                if name in DAMAGE and traces.saved() and traces.status() != "done":
                    traces.damage(self.rng.random(), cut=self.rng.random() < 0.5)
        return traces.run.path

    def _draw(self, disk: str) -> str:
        """Return the name of a fault; on a small disk mostly a full one, and often one of the store. Half of the others are signals."""
        if self.starts.proxy is not None and "store of the data fails" in self.faults and self.rng.random() < 0.3:
            return "store of the data fails"
        if "full disk" in self.faults and disk == "small disk" and self.rng.random() < 0.5:
            return "full disk"
        signals = [name for name in self.faults if name in GRACEFUL | UNGRACEFUL | DAMAGE]
        others = [name for name in self.faults if name not in (*signals, "full disk")]
        return self.rng.choice(others if others and self.every and self.rng.random() < 0.6 else signals or others)

    def straight(self, name: str, kind: Mapping[str, Any], world_size: int) -> tuple[str, Any, Any]:
        """Return the state's digest, the rows and the published files of an undisturbed run."""
        if (world_size, name) not in self._straight:
            tree = config(self.images, self.starts.places["plain"], kind)
            run = train(changed(tree, run__name=f"straight-{name}-{world_size}"), world_size)
            self._straight[world_size, name] = state_digest(run), rows(run), published(run)
        return self._straight[world_size, name]

    def __call__(self, kills: int, worlds: tuple[int, ...], most_per_run: int) -> dict[str, Any]:
        """Disturb runs until ``kills`` faults have happened.

        Raises:
            AssertionError: a run ended with other weights or rows than the undisturbed one, or lost too many steps; a start
                hung, or ended without a reason.
        """
        while self.tally.kills < kills:
            number = self.tally.runs
            name, kind = self._model(number, len(worlds))
            world_size, disk = worlds[number % len(worlds)], self.rng.choice(self.disks)
            digest, expected, files = self.straight(name, kind, world_size)
            self.tally.runs += 1
            self.tally.models[name] += 1
            self.tally.disks[disk] += 1
            tree = changed(
                config(self.images, self.starts.places[disk], kind), run__name=f"run-{self.tally.runs}", **self.data
            )  # fmt: skip
            if self.starts.proxy is not None and self.rng.random() < 0.5:
                tree = changed(tree, data__stage=str(self.starts.output / "node"))
            if self.recipe == "device":  # each run builds a cache of its own
                tree = changed(tree, data__cache=str(self.starts.output / f"cache-{self.tally.runs}"))
            run = self.one_run(tree, world_size, disk, min(most_per_run, kills - self.tally.kills))
            what = f"{run.name}, {name} with {world_size} ranks on {disk},"
            assert state_digest(run) == digest, f"{what} ended with other weights"
            assert rows(run) == expected, f"{what} has other rows"
            assert published(run) == files, f"{what} published other files"
            shutil.rmtree(run)  # a small disk has room for few
            self.tally.skipped += sum(row.get("skipped_steps", 0) for row in expected)
            print(f"{self.tally.kills} of {kills}: {what} ends the same", flush=True)
        return self.tally.report() | {"starts": dict(self.starts.launchers)}

    def _model(self, number: int, worlds: int) -> tuple[str, Mapping[str, Any]]:
        if turns := TURNS.get(self.recipe):
            turn = number // worlds % len(turns)
            keys = {"distributed__strategy": turns[turn]} | dict(self.prepared)
            return f"{self.recipe}-{turn}", RECIPES[self.recipe] | keys
        if self.recipe:
            return self.recipe, RECIPES[self.recipe] | dict(self.prepared)
        if self.every and self.rng.random() < 0.5:
            name = self.rng.choice(ODD)
            return name, odd(name)
        return ("test_efficientnet", CNN) if (number + number // worlds) % 2 else ("test_vit", VIT)


def fuzz(
    kills: int, seed: int, worlds: tuple[int, ...], output: Path, most_per_run: int = 8, torchrun: float = 0.0,
    every: bool = False, recipe: str = "", only: str = "", disk: str = "", data: str = "folder",
) -> dict[str, Any]:  # fmt: skip
    """See ``Fuzz``. With ``every``, this process gets mounts of its own.

    Args:
        data: of the disturbed runs: "folder", "archives", or "remote", where half of the runs copy them (``data.stage``).
    """
    if every and CAN_MOUNT:
        own_mounts()
    output.chmod(0o755)  # other users read the images
    plain = output / "plain"
    with ExitStack() as stack:
        if every:
            found = stack.enter_context(places(output))
        else:
            plain.mkdir(parents=True)
            found = {"plain": plain}
        starts = Starts(output, torchrun, found)
        images = make_image_folder(output / "images")
        given = prepared(recipe, images, found["plain"])
        keys = {}
        if data != "folder":
            pack(images, output / "archives", MB)
            keys = {"data__format": "tar", "data__root": str(output / "archives")}
        if data == "remote":
            (output / "node").mkdir()
            (output / "node").chmod(0o777)
            keys["data__root"], starts.proxy = stack.enter_context(
                failing_store("s3", output / "archives", stack.enter_context(pytest.MonkeyPatch.context()))
            )
        return Fuzz(seed, starts, every, recipe, only, disk, given, keys)(kills, worlds, most_per_run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, nargs="+", default=[2, 4], help="numbers of ranks, in turn")
    parser.add_argument("--torchrun", type=float, default=0.25, help="share of starts under a real torchrun (0.25)")
    parser.add_argument("--signals-only", action="store_true", help="only signals and damage, on models of timm")
    parser.add_argument("--recipe", default="", choices=RECIPES, help="the config of every run")
    parser.add_argument("--only", default="", metavar="WORD", help="only faults whose name has this word")
    parser.add_argument("--disk", default="", metavar="WORD", help="only file systems whose name has this word")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--archives", action="store_true", help="train from tar archives; the undisturbed runs from the folder"
    )
    where.add_argument("--remote", action="store_true", help="from tar archives in a store of S3, which fails too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    args = parser.parse_args()
    began = time.monotonic()
    output = Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(f"runs in {output}, which stay there after a failure", flush=True)
    worlds, every = tuple(args.worlds), not args.signals_only
    data = "remote" if args.remote else "archives" if args.archives else "folder"
    found = fuzz(
        args.kills, args.seed, worlds, output,
        torchrun=args.torchrun, every=every, recipe=args.recipe, only=args.only, disk=args.disk, data=data,
    )  # fmt: skip
    shutil.rmtree(output)
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"{os.cpu_count()} shared CPU cores, {platform.system()}",
        "command": f"python -m tests.whole_runs.fuzz {' '.join(sys.argv[1:])}",
        "seconds": round(time.monotonic() - began),
    }
    text = json.dumps(about | found, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
