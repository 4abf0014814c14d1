"""Run all benchmarks, ours and their peers, and write one table.

    make bench                               # or: python -m benchmarks.bench [--quick] [--only loop startup]

Each part is a separate program that measures its peers in the same run. Writes benchmarks/results/bench.json and bench.md.
The exit code is 1 if a part failed. A missed target is not a failure; the table shows it.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, circumstances, table

PARTS = ("pipeline", "loop", "startup", "evaluate", "ddp", "memory", "checkpoint_stall")
RESULTS = Path(__file__).with_name("results")
LONGEST_S = 900


def run_part(name: str, quick: bool) -> dict[str, Any]:
    """What a part found: ``rows`` and more; or ``failed``, with the end of what it said."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *(["--quick"] if quick else [])]
        began = time.monotonic()
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LONGEST_S
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {LONGEST_S} s"}
        seconds = round(time.monotonic() - began, 1)
        if done.returncode or not file.exists():
            return {"failed": f"exit code {done.returncode}: {done.stdout.strip()[-1500:]}", "seconds": seconds}
        found: dict[str, Any] = json.loads(file.read_text())
        return {**found, "seconds": seconds}


def report(parts: dict[str, dict[str, Any]], about: dict[str, Any]) -> str:
    """The table, and what failed, as Markdown."""
    rows = [Row(**row) for part in parts.values() for row in part.get("rows", [])]
    failed = [
        f"- **{name} failed**: {part['failed'].splitlines()[-1]}" for name, part in parts.items() if "failed" in part
    ]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    head = [f"# `{about['command']}`", "", f"{about['date']}, {about['hardware']}; {versions}.", ""]
    return "\n".join([*head, table(rows), *(["", *failed] if failed else [])]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="check that it works; the figures are not meaningful")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--to", type=Path, default=RESULTS, metavar="FOLDER", help="folder for bench.json and bench.md")
    args = parser.parse_args()
    parts = {}
    for name in args.only:
        if importlib.util.find_spec(f"benchmarks.{name}") is None:
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        parts[name] = run_part(name, args.quick)
    about = circumstances()
    text = report(parts, about)
    print(text)
    args.to.mkdir(parents=True, exist_ok=True)
    (args.to / "bench.json").write_text(json.dumps(about | {"quick": args.quick, "parts": parts}, indent=2) + "\n")
    (args.to / "bench.md").write_text(text)
    return int(any("failed" in part for part in parts.values()))


if __name__ == "__main__":
    sys.exit(main())
