"""``log.report``: the page of a run, written at its end by a process of its own: ``python -m dist_train report``.

The run is done by then, and ``result.json`` says so: a page that cannot be written is a warning.
"""

import importlib.util
import logging
import os
import subprocess
import sys

from dist_train.config.sections.log import LogConfig
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from dist_train.system.processes import die_with_parent
from dist_train.system.program import program

log = logging.getLogger(__name__)

PACKAGES = {"jinja2": "jinja2", "matplotlib": "matplotlib", "sklearn": "scikit-learn"}
"""What the page needs: name of the import -> name of the package."""
MOST_S = 120.0
"""The longest time that the end of a run waits for the page; it takes about 5 s."""


def missing_packages() -> list[str]:
    """Return the packages that the page needs and that are not installed."""
    return [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]


def refuse_without_packages(cfg: LogConfig) -> None:
    """Raise ConfigError if the page is wanted and a package for it is missing."""
    absent = missing_packages() if cfg.report else []
    if absent:
        raise ConfigError(
            f"`log.report` needs {', '.join(absent)}: pip install {' '.join(absent)}, or the extra `report`, or set it to false"
        )


def write_page(run: RunDir, timeout_s: float) -> bool:
    """Write the page of a run that is done. Return whether that worked; if not, warn and say why.

    Args:
        timeout_s: `distributed.timeout_s`: half of it may pass, since other ranks may wait.
    """
    # The run has just used the code that its config names: --trust allows no more than that.
    why = why_not(["report", str(run.path.resolve()), "--trust"], timeout_s)
    if not why:
        log.info("report: %s", run.report)
        return True
    log.warning("%s was not written: %s. Try `%s %s`", run.report.name, why, program("report"), run.path)
    return False


def why_not(words: list[str], timeout_s: float) -> str:
    """Run a command of ours in a process of its own, without a GPU. Return why it failed; an empty text if it did not.

    Args:
        words: its name and arguments.
        timeout_s: as in ``write_page``.
    """
    limit_s = min(MOST_S, timeout_s / 2)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dist_train", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            preexec_fn=die_with_parent,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": ""},
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {limit_s:g} s"
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else " ".join(done.stderr.split())[-500:] or f"exit code {done.returncode}"
