"""``log.report``: the page of a run, written at its end by a process of its own: ``python -m dist_train report``.

The run is done by then, and ``result.json`` says so: a page that cannot be written is a warning.
"""

import importlib.util
import logging

from dist_train.config.sections.log import LogConfig
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from dist_train.system.program import program
from dist_train.training.report.own_process import failure_of

log = logging.getLogger(__name__)

PACKAGES = {"jinja2": "jinja2", "matplotlib": "matplotlib", "sklearn": "scikit-learn"}
"""What the page needs: name of the import -> name of the package."""


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
        timeout_s: as in ``failure_of``.
    """
    # The run has just used the code that its config names: --trust allows no more than that.
    why = failure_of(["report", str(run.path.resolve()), "--trust"], timeout_s)
    if not why:
        log.info("report: %s", run.report)
        return True
    log.warning("%s was not written: %s. Try `%s %s`", run.report.name, why, program("report"), run.path)
    return False
