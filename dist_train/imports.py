"""The beginning of a training: what can be checked without torch, then the imports, which take seconds."""

import importlib
import os
import signal
from contextlib import AbstractContextManager, nullcontext

from dist_train.config import Config
from dist_train.errors import EXIT_DONE, DistTrainError
from dist_train.run.folder import RunDir
from dist_train.run.result import START_NAME
from dist_train.system.imports.fast_imports import quick_imports
from dist_train.system.machine.memory import expand_gpu_segments
from dist_train.system.private_folder import check_temporary_files
from dist_train.system.processes import die_with_parent
from dist_train.system.signals import end_at_interrupt
from dist_train.system.start import check_start
from dist_train.system.streams import go_on_without
from dist_train.system.terminal import report
from dist_train.training.stop_at_start import stops_at_start_recorded


def prepare(cfg: Config | None) -> int:
    """Check how the process was started and where the data is, then import all that a training needs.

    Args:
        cfg: None if another command is to run, which checks its own config.

    Returns:
        0; 2 if this start is refused. A stop signal during the imports ends this process.
    """
    try:
        check_start()
        check_temporary_files()
        if cfg is not None and "TORCHELASTIC_RUN_ID" not in os.environ and START_NAME not in os.environ:
            from dist_train.data.formats.walk import look_at_root  # numpy and Pillow: --help does not need them

            # torchrun and supervisors read from files why a rank failed; dist_train.training writes them
            look_at_root(cfg.data)
    except DistTrainError as error:
        return report(error)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # If torchrun is killed, its ranks survive. Its death is a stop signal for them: they save and exit.
        die_with_parent(signal.SIGUSR2)
    recorded: AbstractContextManager[None] = nullcontext()
    if cfg is not None:
        go_on_without()
        end_at_interrupt()
        expand_gpu_segments(cfg.model.cuda_graphs)
        recorded = stops_at_start_recorded(RunDir.of(cfg.run))
    with recorded, quick_imports():
        importlib.import_module("dist_train.training.attempt")
    return EXIT_DONE
