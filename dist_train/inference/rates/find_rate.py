"""The command ``python -m dist_train lr_find``: train with a rising learning rate, without a run folder."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dist_train.config.load import parse_config
from dist_train.config.schema import Config
from dist_train.data.loader import end_loaders
from dist_train.distributed.group import Dist, joined
from dist_train.distributed.stop import StopRequest
from dist_train.errors import EXIT_DONE, EXIT_FAILED
from dist_train.inference.rates.report import can_draw, draw, table, to_paste
from dist_train.inference.rates.search import LOWEST, Curve, diverged, suggested
from dist_train.system.terminal import log_to_console, writing_output
from dist_train.training.failure import exit_code
from dist_train.training.report.explained import explained
from dist_train.training.setup import Setup, build_setup
from dist_train.training.step import train_step


def find_rate(cfg: Config, steps: int, picture: Path | None) -> int:
    """Measure the curve on all ranks; print it and the suggestion on rank 0. Return the exit code.

    Raises:
        ConfigError, DataError: the config, the data or the model is wrong, or nothing trains.
    """
    if picture:
        can_draw(picture)
    with joined(cfg.distributed) as group:
        log_to_console(group.rank)
        curve = measure(cfg, steps, group)
    if curve is None:
        return exit_code("stopped")
    chosen = suggested(curve)
    if group.is_main:
        _report(cfg, curve, chosen, picture)
    return EXIT_FAILED if chosen is None else EXIT_DONE


def _report(cfg: Config, curve: Curve, chosen: float | None, picture: Path | None) -> None:
    print("\n".join(table(curve, chosen)))
    if picture:
        with writing_output("--picture", picture):
            draw(picture, curve, chosen)
    if cfg.model.unfreeze:
        print("note: `model.unfreeze`: layers that begin to train later took no part")
    if chosen is None:
        print(
            "no suggestion: the loss did not fall by more than its noise; use more --steps, or look for the cause with --check"
        )
    else:
        print(f"suggestion: {to_paste(cfg, chosen)}")


def measure(cfg: Config, steps: int, group: Dist) -> Curve | None:
    """Train until the loss diverges, at most ``steps`` steps, and leave no files. Every rank must call it.

    Returns:
        The curve, the same on every rank; None if a signal stopped it.
    """
    with scratch_folder(group) as folder, StopRequest(group, timeout_s=cfg.distributed.timeout_s) as stop:
        trial = trial_config(cfg, steps, folder)
        try:
            return _climb(build_setup(trial, group), steps, stop)
        except Exception as error:
            known = explained(error, trial)
            if known is error:
                raise
            raise known from error
        finally:
            end_loaders()


def trial_config(cfg: Config, steps: int, folder: Path) -> Config:
    """Return the config of a run that begins as that of ``cfg``, in ``folder``, while its rate rises over ``steps`` steps.

    Its epochs are more than it needs, so that it has the steps, and epochs of the config (``model.unfreeze``) stay valid.
    """
    tree = cfg.model_dump(mode="json")
    tree["run"] |= {"output_dir": str(folder), "name": "trial", "resume": "auto"}
    tree["optim"] |= {"lr": LOWEST, "lr_base": None}
    tree["schedule"] = {"name": "dist_train.inference.rates.search:rising", "options": {"steps": steps}}
    tree["train"] |= {"epochs": cfg.train.epochs + steps, "max_steps": None, "pause_epoch": None}
    # The same draws, without a cache of all decoded images; and no code of the user's that may write files.
    tree["augment"]["device"], tree["data"]["cache"], tree["hooks"] = False, None, []
    return parse_config(tree)


@contextmanager
def scratch_folder(group: Dist) -> Iterator[Path]:
    """Yield a temporary folder with the run folder of the trial: the same path on every rank, on each node its own."""
    name = group.from_main(lambda: f"dist_train-lr_find-{secrets.token_hex(8)}")
    folder = Path(tempfile.gettempdir()) / name
    try:
        with group.together(), writing_output("TMPDIR", folder):
            if group.local_rank == 0:
                folder.mkdir(mode=0o700, exist_ok=True)
                (folder / "trial").mkdir(exist_ok=True)
        yield folder
    finally:
        if group.local_rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


def _climb(setup: Setup, steps: int, stop: StopRequest) -> Curve | None:
    group, curve = setup.group, Curve([], [])
    for step in range(steps):
        if stop.agreed():
            return None
        curve.rates.append(setup.stepper.lr(step))
        loss = train_step(setup.stepper, setup.state)["loss"]
        curve.losses.append(group.sum(loss.double()).item() / group.world_size)
        if diverged(curve.losses):
            break
    return curve
