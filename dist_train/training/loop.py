"""The training loop: ``fit``, its evaluations and its saves."""

import logging
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.sharded.by_ranks import save_shares
from dist_train.checkpoint.store import ExtraFiles
from dist_train.data.loader import WaitedForData
from dist_train.distributed.stop import StopRequest
from dist_train.evaluation.loop import evaluate
from dist_train.evaluation.metrics import Evaluation, reported
from dist_train.evaluation.reports import pack_outcome
from dist_train.model.freeze import train_mode
from dist_train.model.lora.merged import merged
from dist_train.run.result import Status
from dist_train.system.machine.clock import awake_s
from dist_train.training.guard import finite_means, finite_score, refuse_what_is_not_finite, take_means
from dist_train.training.parts.build_state import train_more
from dist_train.training.parts.given import has_own_code
from dist_train.training.parts.kept_weights import among_the_best, weights_path
from dist_train.training.recorder import Recorder
from dist_train.training.step import train_step

if TYPE_CHECKING:
    from dist_train.training.setup import Setup

log = logging.getLogger(__name__)


def fit(setup: "Setup", recorder: Recorder, stop: StopRequest) -> Status:
    """Train from the state's step to the end of the plan, or until all ranks agree to stop."""
    plan, progress = setup.plan, setup.state.progress
    pending, grown = evaluation_pending(setup), True
    while pending or not finished(setup):
        if pending:
            stopping = agreed(setup, stop)
        elif plan.pauses(progress.step):
            return "stopped"
        else:
            grown = unfreeze_due(setup) or grown
            try:
                stopping = train_until(plan.next_event(progress.step), setup, recorder, stop, grown)
            except WaitedForData as waited:
                if setup.group.world_size > 1 or waited.received % plan.accumulate:
                    raise  # the other ranks are in this step, or a part of it is computed
                stop.settled()
                save_now(setup, recorder, stop, None)
                return "stopped"
            grown = False
        pending = False
        best: ExtraFiles | None = None
        if evaluation_due(setup) and not stopping:
            best, stopping = evaluate_now(setup, recorder, stop)
        due = plan.due(progress.step, plan.save_every_steps) or plan.pauses(progress.step)
        if stopping or finished(setup) or best is not None or due:
            with stop.patience():
                save_now(setup, recorder, stop, best)
        if stopping:
            return "stopped"
    return "done"


def unfreeze_due(setup: "Setup") -> bool:
    """Let the frozen layers train that ``model.unfreeze`` names for this step. Return whether there are any."""
    step = setup.state.progress.step
    if step not in setup.plan.unfreeze_steps:
        return False
    setup.checkpoints.before_update()
    parts = setup.cfg, setup.plan, setup.network, setup.index.outputs, setup.state
    setup.stepper.wrapped = train_more(*parts, step)
    return True


def train_until(event: int, setup: "Setup", recorder: Recorder, stop: StopRequest, grown: bool) -> bool:
    """Train until step ``event``; less, if the ranks agree to stop or a hook ends the run. Return whether they stop.

    Args:
        grown: parameters train that have not trained in this process.
    """
    state, plan = setup.state, setup.plan
    while True:
        recorder.begin_step()
        scalars = train_step(setup.stepper, state)
        if grown:  # now the optimizer has its moments
            setup.checkpoints.reserve(state.nbytes(), setup.group.device)
            grown = False
        recorder.tick()
        setup.checkpoints.poll()
        arrived = state.progress.step >= event
        if arrived and plan.due(state.progress.step, plan.log_every_steps):
            recorder.log_steps(take_means(setup))
        ask_hooks(setup, scalars, stop)
        stopping = agreed(setup, stop)
        if stopping or arrived or state.hooks.ended is not None:
            return stopping


def agreed(setup: "Setup", stop: StopRequest) -> bool:
    """Return whether all ranks stop here, and settle whether a hook ends the run. Every rank must call it once per step."""
    stopping = stop.agreed()
    setup.state.hooks.settle(stop.ending, setup.group)
    return stopping


def ask_hooks(setup: "Setup", scalars: dict[str, Tensor], stop: StopRequest) -> None:
    """Tell the hooks of this rank that a step is done, and the other ranks if one wants to end the run."""
    hooks = setup.state.hooks
    hooks.after_step(setup.state.progress.step, scalars)
    if hooks.asked is not None:
        stop.ask_to_end()


def finished(setup: "Setup") -> bool:
    """Return whether all steps are done, or early stopping or a hook ends the run."""
    return setup.state.progress.step >= setup.plan.total_steps or setup.state.early_end(setup.cfg) is not None


def evaluation_due(setup: "Setup") -> bool:
    """Return whether this step is evaluated: by the plan, or as the last one of a run that a hook ends."""
    due = setup.plan.due(setup.state.progress.step, setup.plan.eval_every_steps)
    return due or setup.state.hooks.ended is not None


def evaluation_pending(setup: "Setup") -> bool:
    """Return whether the run stopped before the evaluation of its step, which then comes first."""
    return evaluation_due(setup) and setup.state.progress.evaluated < setup.state.progress.step


def evaluate_now(setup: "Setup", recorder: Recorder, stop: StopRequest) -> tuple[ExtraFiles | None, bool]:
    """Evaluate and record the result.

    Returns:
        The files to publish if the result is the best so far, or among those to keep, else None; and whether the ranks agreed to stop during
        the evaluation, which then has no result.
    """
    began = awake_s()
    setup.checkpoints.settle()  # an evaluation may be long
    state = setup.state
    found: Evaluation | None = None
    try:
        gathered = state.strategy.gathered(state.evaluated_model)
        with gathered, state.shared_buffers(setup.group), merged(state.evaluated_model):
            model = setup.network.of_batches(state.evaluated_model)
            found = evaluate(model, setup.data, state.precision, stop, reported(setup.cfg.eval, setup.index.task))
    except WaitedForData:
        if setup.group.world_size > 1:
            raise  # the other ranks go on evaluating
        stop.settled()
    train_mode(state.objective)
    if found is None:
        return None, True
    is_best = state.progress.note(found.scores, setup.cfg.eval.metric, setup.cfg.train.early_stopping)
    state.kept, among = among_the_best(state.kept, state.progress.step, found.scores, setup.cfg.checkpoint.keep_best)
    plain = state.plain_state() if state.base and (is_best or among) else {}
    with setup.group.together():  # rank 0 draws, packs and writes
        recorder.log_evaluation(found, awake_s() - began)
        files = _published(setup, found, is_best, among, plain) if is_best or among else None
    finite_score(setup, found.scores)
    state.hooks.after_evaluation(state.progress.step, found.scores, setup.group)
    return files, False


def _published(setup: "Setup", found: Evaluation, is_best: bool, among: list[str], plain: dict[str, Any]) -> ExtraFiles:
    """Return the files that rank 0 publishes together with the checkpoint of this step.

    Args:
        among: the metrics by which this evaluation is one of those to keep.
        plain: the weights, if the checkpoint does not hold them (``TrainState.plain_state``).
    """
    if not setup.group.is_main:
        return {}
    step, weights = setup.state.progress.step, setup.state.published(plain)
    files: ExtraFiles = {weights_path(setup.run, metric, step): weights for metric in among}
    if is_best:
        files |= {setup.run.best: weights, setup.run.predictions: pack_outcome(found, setup.index, step)}
    return files


def save_now(setup: "Setup", recorder: Recorder, stop: StopRequest, extra_files: ExtraFiles | None) -> None:
    """Start to save a checkpoint together with ``extra_files``. Every rank must call it.

    Rank 0 copies the state; its writer process writes the files while training continues.

    Raises:
        NonFiniteError: the state is not finite. Such a state is never saved.
        SaveError: the previous checkpoint could not be written.
    """
    began = awake_s()
    finite_means(setup)
    unreadable = setup.data.bad_images.report(setup.group, setup.run.bad_images)
    if unreadable and setup.group.is_main:
        log.warning("%d images cannot be read and are skipped: see %s", unreadable, setup.run.bad_images)
    progress = setup.state.progress
    refuse_what_is_not_finite(setup)
    setup.state.own.check_frozen()
    state = setup.state.state_dict(setup.group)
    manifest = Manifest(
        step=progress.step,
        evaluated=progress.evaluated == progress.step,
        world_size=setup.group.world_size,
        data_fingerprint=setup.index.fingerprint,
        config=setup.compared,
        total_steps=setup.plan.total_steps,
        schedule_starts=list(setup.plan.schedule_starts),
    )
    late = setup.state.changed_late(has_own_code(setup.cfg, setup.given))
    # Rank 0 waits for the checkpoint before this one.
    if setup.state.strategy.shares_saves:
        limit_s = setup.cfg.distributed.timeout_s
        save_shares(setup.checkpoints, setup.group, state, manifest, extra_files, limit_s, late)
    else:
        setup.group.from_main(lambda: setup.checkpoints.save(state, manifest, extra_files, late=late))
    if setup.group.is_main:
        recorder.look_at_code()
        recorder.saving()
    stop.reserve(10 + 2 * setup.checkpoints.write_s)
    recorder.paused(awake_s() - began)
