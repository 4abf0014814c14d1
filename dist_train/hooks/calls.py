"""All hooks of a run on this rank, and how the ranks agree that a hook ends the run.

A request after a step travels with the flag of stop signals (``distributed.stop``), so that steps wait for nothing: all ranks
end the run at the same step, at most one step later (on many ranks: at the next exchange). A request after an evaluation is exchanged at once.
"""

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dist_train.distributed.group import Dist
from dist_train.errors import DistTrainError
from dist_train.hooks.base import Hook, Start
from dist_train.hooks.memory import Memory

if TYPE_CHECKING:
    from dist_train.run.result import Status

log = logging.getLogger(__name__)


class Hooks:
    """The hooks of a run, by name. Without hooks no method does anything.

    Attributes:
        asked: why a hook of this rank wants to end the run.
        ended: why a hook has ended the run, the same on all ranks.
    """

    def __init__(self, named: Mapping[str, Hook]) -> None:
        self._named = dict(named)
        self._memories: list[Memory] = []
        self._seen_a_step = self._pending = False
        self.asked: str | None = None
        self.ended: str | None = None

    def start(self, start: Start) -> None:
        """Begin an attempt."""
        for name, hook in self._named.items():
            with _named_errors(name, "start"):
                hook.start(start)
        self._memories = [Memory(name, hook) for name, hook in self._named.items()]

    def after_step(self, step: int, scalars: Mapping[str, Tensor]) -> None:
        """Tell all hooks that a step is done.

        Raises:
            DistTrainError: a hook fails, or changes without a ``state_dict``.
        """
        for name, hook in self._named.items():
            with _named_errors(name, "after_step"):
                self._note(name, hook.after_step(step, dict(scalars)))
        if not self._seen_a_step:
            self._seen_a_step = True
            self._refuse_changes()

    def settle(self, agreed: bool, group: Dist) -> None:
        """Set ``ended`` if a hook of any rank asked for it. Every rank must call it after each step.

        Args:
            agreed: the ranks know by the stop flag that one of them asks.
        """
        if self.ended is None and (agreed or self._pending):
            self._exchange(group)

    def after_evaluation(self, step: int, scores: Mapping[str, float], group: Dist) -> None:
        """Tell all hooks the result of an evaluation, and set ``ended`` if one asks for it. Every rank must call it.

        Raises:
            DistTrainError: a hook fails, or changes without a ``state_dict``.
        """
        if not self._named:
            return
        with group.together():
            for name, hook in self._named.items():
                with _named_errors(name, "after_evaluation"):
                    self._note(name, hook.after_evaluation(step, dict(scores)))
            self._refuse_changes()
        if self.ended is None:
            self._exchange(group)

    def end(self, status: "Status") -> None:
        """End an attempt."""
        for name, hook in self._named.items():
            with _named_errors(name, "end"):
                hook.end(status)

    def _note(self, name: str, reason: Any) -> None:
        if reason is not None and self.asked is None:
            self.asked = f"{name}: {reason}"

    def _exchange(self, group: Dist) -> None:
        self.ended = next((reason for reason in group.gather_objects(self.asked) if reason is not None), None)

    def _refuse_changes(self) -> None:
        for memory in self._memories:
            memory.refuse_changes()

    def state_dict(self, group: Dist) -> dict[str, Any]:
        """Return the state of the hooks of all ranks; empty without hooks. Every rank must call it."""
        if not self._named:
            return {}
        self._refuse_changes()
        mine = {"asked": self.asked, "states": {name: _on_cpu(hook.state_dict()) for name, hook in self._named.items()}}
        return {"ended": self.ended, "ranks": group.gather_objects(mine)}

    def load_state_dict(self, saved: dict[str, Any], group: Dist) -> None:
        """Load what ``state_dict`` returned. If the number of ranks has changed, all ranks load the state of rank 0."""
        if not saved:
            return
        ranks = saved["ranks"]
        mine = ranks[group.rank if len(ranks) == group.world_size else 0]
        if group.is_main and len(ranks) != group.world_size and any(mine["states"].values()):
            log.warning("hooks: the checkpoint is of %d ranks; all ranks continue with the state of rank 0", len(ranks))
        for name in mine["states"].keys() - self._named.keys() if group.is_main else ():
            log.warning(
                "`hooks`: the checkpoint has the state of %s, which this start does not use; it is left out", name
            )
        for name in self._named.keys() & mine["states"].keys():
            with _named_errors(name, "load_state_dict"):
                self._named[name].load_state_dict(mine["states"][name])
        if self._named:
            every = [found["asked"] for found in ranks if found["asked"] is not None]
            self.ended, self._pending = saved["ended"], bool(every)
            self.asked = mine["asked"] if len(ranks) == group.world_size else next(iter(every), None)


def _on_cpu(value: Any) -> Any:
    """Return a copy of a state, with all tensors on the CPU: other ranks have other devices."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return type(value)(map(_on_cpu, value)) if isinstance(value, list | tuple) else value


@contextmanager
def _named_errors(name: str, method: str) -> Iterator[None]:
    """Raise an error of the block as one that names the hook, its method and the line of code."""
    try:
        yield
    except DistTrainError:
        raise
    except Exception as error:
        log.error("%s", "".join(traceback.format_exception(error)).rstrip())
        where = traceback.extract_tb(error.__traceback__)[-1]
        named = DistTrainError(
            f"`hooks` ({name}) failed in {method}: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        )
        named.of_one_rank = True
        raise named from error
