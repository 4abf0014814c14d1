"""``config.yaml`` and ``provenance.json``: the config, command, code version and hardware of each start."""

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import dist_train
from dist_train.config.load import dump_config
from dist_train.config.schema import Config
from dist_train.run.attempts import attempts_of
from dist_train.run.branch import parent_of
from dist_train.run.folder import RunDir
from dist_train.run.git_state import git_state
from dist_train.run.named_code import digest_of, named_code
from dist_train.run.result import now
from dist_train.system.files import atomic_write, read_json, remove_leftovers, write_json
from dist_train.system.machine.cores import usable_cores
from dist_train.system.said_once import remove_marks


def begin_attempt(
    run: RunDir,
    cfg: Config,
    world_size: int,
    hosts: list[str],
    gpus: list[str] | None = None,
    resumed: bool = False,
    facts: dict[str, Any] | None = None,
) -> int:
    """Write ``config.yaml`` and add an entry to ``provenance.json``; see also ``remove_partial_files``.

    Args:
        hosts: the host name of every rank.
        gpus: the names of the GPUs of this host. The caller asks torch for them: this module does not import it.
        resumed: the attempt continues from a checkpoint; the parent that is recorded stays.
        facts: more to record of this attempt.

    Returns:
        The number of this attempt, from 1.
    """
    remove_partial_files(run)
    with atomic_write(run.config) as file:
        file.write(dump_config(cfg).encode())
    attempts = attempts_of(run)
    attempts.append({"attempt": len(attempts) + 1, **_provenance(cfg, world_size, hosts, gpus or []), **(facts or {})})
    parent = read_json(run.provenance, default={}).get("parent") if resumed else parent_of(cfg)
    write_json(run.provenance, {**({"parent": parent} if parent else {}), "attempts": attempts})
    return len(attempts)


def remove_partial_files(run: RunDir) -> None:
    """Remove what killed attempts have left beside the files of a run. Call it only from the process that holds the run's lock."""
    files = (run.last, run.metrics, run.listing, run.scan, run.bad_images, run.classes)
    for path in (*files, run.config, run.provenance, run.result):
        remove_leftovers(path)
    remove_marks(run.path)


def _provenance(cfg: Config, world_size: int, hosts: list[str], gpus: list[str]) -> dict[str, Any]:
    packages = ("torch", "torchvision", "timm", "numpy", "pillow", "pydantic")
    return {
        "started": now(),
        "command": list(map(without_secrets, [sys.executable, *sys.orig_argv[1:]])),
        "directory": os.getcwd(),
        "hosts": hosts,
        "world_size": world_size,
        "hardware": hardware() | {"gpus": gpus},
        "git": git_state(),
        "named_code": {code.spec: digest_of(code) for code in named_code(cfg)},
        "versions": {"dist_train": dist_train.__version__, "python": platform.python_version()}
        | {name: _version(name) for name in packages},
        "slurm": {key: value for key, value in os.environ.items() if key in _SLURM_KEYS},
    }


_SECRET = re.compile(
    r"([\w.-]*(?:token|secret|passw|api_?key|credential)[\w.-]*['\"]?\s*[=:]\s*)(?!\s)[^\s,}]+", re.IGNORECASE
)
_LOGIN = re.compile(r"(://[^/\s:@]+:)[^/\s@]+@")


def without_secrets(word: str) -> str:
    """Return a word of a command line without what looks like a key or a password.

    >>> without_secrets("log.loggers=[{options: {api_key: abc}}]"), without_secrets("data.root=s3://me:abc@host/images")
    ('log.loggers=[{options: {api_key: ***}}]', 'data.root=s3://me:***@host/images')
    """
    return _LOGIN.sub(r"\1***@", _SECRET.sub(r"\1***", word))


_SLURM_KEYS = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_NAME",
)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def hardware() -> dict[str, Any]:
    """Return the CPU model, the cores that this process may use, all cores, and the memory in GiB (Linux)."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": usable_cores(),
        "cores_of_host": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def _field(table: Path, name: str) -> str | None:
    """Return the value of the first line ``name : value``; None if there is none."""
    try:
        found = re.search(rf"^{name}\s*:\s*(.+)$", table.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1] if found else None
