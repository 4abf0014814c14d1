"""Shared by all benchmarks: interleaved timing, the rows of the table, and the facts written with the figures."""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VERSIONS = (
    "torch",
    "triton",
    "torchvision",
    "timm",
    "numpy",
    "pillow",
    "simplejpeg",
    "turbojpeg",
    "opencv-python-headless",
)


@dataclass(frozen=True)
class Row:
    """One line of the table. ``ratio`` is ours / peer or as ``what`` says; ``met`` is None without a target."""

    what: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


class Record:
    """Figures by name in a JSON file. One that is there is not measured again, so that a benchmark can be stopped and go on."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.content: dict[str, Any] = (
            json.loads(out.read_text()) if out.exists() else circumstances() | {"figures": {}}
        )
        self.figures: dict[str, Any] = self.content["figures"]

    def measure(self, key: str, figure: Callable[[], Any]) -> None:
        """Measure a figure if it is missing, write the file, and print it."""
        if key not in self.figures:
            self.figures[key] = figure()
            self._out.write_text(json.dumps(self.content, indent=1) + "\n")
            print(key, self.figures[key], flush=True)


def interleaved(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every side once per round, in an order that is reversed after each round. Return the figures by side.

    A disturbance of the machine thus affects all sides equally.
    """
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in order:
            figures[name].append(sides[name]())
    return figures


def markdown(titles: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def medians(figures: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in figures.items()}


def ratio_of(figures: Mapping[str, list[float]], above: str, below: str) -> float:
    """Return the median over rounds of the ratio of two sides within a round."""
    return statistics.median(a / b for a, b in zip(figures[above], figures[below], strict=True))


def pinned(core: int = 0) -> None:
    """Keep this process and its children on one core, with one thread."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[core % len(allowed)]})
    os.environ["OMP_NUM_THREADS"] = "1"


def circumstances(command: str | None = None) -> dict[str, Any]:
    """Return date, hardware, versions and command, which every result needs."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in VERSIONS},
        "command": command or _command(sys.argv[1:]),
    }


def _command(words: list[str]) -> str:
    """Return the command without folders of this machine and without the output file."""
    if "--json" in words:
        place = words.index("--json")
        words = words[:place] + words[place + 2 :]
    names = (Path(word).name if word.startswith("/") else word for word in words)
    return " ".join(["python -m", f"benchmarks.{Path(sys.argv[0]).stem}", *map(shlex.quote, names)])


def hardware() -> str:
    """Return the name of the processor and the number of our cores, which may be shared with other users."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} shared CPU cores ({name})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def print_table(rows: list[Row]) -> None:
    print(table(rows))


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| what | ours | peer | ratio | target | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        peer = "" if row.peer is None else f"{row.peer:.4g} {row.unit} ({row.peer_name})"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}x"
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        lines.append(f"| {row.what} | {row.ours:.4g} {row.unit} | {peer} | {ratio} | {row.target} | {met} |")
    return "\n".join(lines)


def write_json(path: Path, rows: list[Row], **more: Any) -> None:
    content = circumstances() | more | {"rows": [asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def run_part(description: str | None, measure: Callable[[bool], list[Row]]) -> None:
    """Parse the command line of a part: ``--quick`` and ``--json FILE``."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="check that it works; the figures are not meaningful")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    rows = measure(args.quick)
    print_table(rows)
    if args.json:
        write_json(args.json, rows)
