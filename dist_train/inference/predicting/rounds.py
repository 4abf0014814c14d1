"""Predict files with all ranks: the same batches at any number of ranks and loader processes, in the order of the files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dist_train.config.sections.data import DataConfig
from dist_train.data.loader import end_loaders, evaluation_loader, on_device
from dist_train.data.sampler import EvaluationBatches
from dist_train.data.workers import loader_processes
from dist_train.distributed.group import Dist
from dist_train.errors import DistTrainError
from dist_train.inference.predicting.layout import at_once
from dist_train.inference.predicting.photos import ERRORS, Photos, errors_in

if TYPE_CHECKING:
    from dist_train.inference.predicting.head_input import HeadInput
    from dist_train.inference.predictor import Predictor, Source


@dataclass(frozen=True)
class Outcome:
    """What is known of the images of a batch.

    Attributes:
        outputs: float32 [B, K], of ``Predictor.outputs``.
        embeddings: float32 [B, E]; None if they are not asked for.
        errors: why images cannot be read, by their place in the batch; the arrays have no meaning in these places.
    """

    outputs: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None
    errors: dict[int, str]


class Rounds:
    """Predicts files. In a round each rank predicts one batch, and gets the outcomes of all ranks.

    Args:
        cfg: how many loader processes a rank has (none for a single batch), and what they may take.
        head: gives the embeddings; None if they are not asked for.
    """

    def __init__(
        self, cfg: DataConfig, predictor: "Predictor", head: "HeadInput | None", batch_size: int, group: Dist
    ) -> None:
        self._cfg, self._predictor, self._head = cfg, predictor, head
        self._batch_size, self._group = batch_size, group

    def __call__(self, images: "Sequence[Source]") -> Iterator[list[Outcome]]:
        """Yield the batches of each round, on every rank. Every rank must call it with the same images.

        Raises:
            DistTrainError: the loader processes of a rank cannot start, or give no batch in time.
        """
        mine = self._mine(images)
        try:
            for _ in range(-(-len(images) // (self._batch_size * self._group.world_size))):
                yield [found for found in _or_raise(self._group.gather_objects(_next(mine))) if found is not None]
        finally:
            end_loaders()

    def _mine(self, images: "Sequence[Source]") -> Iterator[Outcome]:
        """Yield the outcomes of this rank's batches."""
        device = self._group.device
        batches = EvaluationBatches(len(images), self._batch_size, self._group.rank, self._group.world_size)
        workers = min(loader_processes(self._cfg), max(0, len(batches) - 1))
        cfg = self._cfg.model_copy(update={"workers": workers, "persistent_workers": False})
        loader = evaluation_loader(cfg, Photos(images, self._predictor.transform), batches, device)
        for pixels, errors in on_device(loader, device, on_host=ERRORS):
            yield self._outcome(pixels, errors)

    def _outcome(self, pixels: Tensor, errors: Tensor) -> Outcome:
        outputs, embeddings = [], []
        for part in at_once(pixels, self._group.device):
            outputs.append(self._predictor.outputs(part).numpy())
            if self._head:
                embeddings.append(self._head.taken().numpy())
        return Outcome(np.concatenate(outputs), np.concatenate(embeddings) if embeddings else None, errors_in(errors))


Attempt = Outcome | DistTrainError | None
"""The outcome of a batch, or the error of the rank; None if the rank has no batch in this round."""


def _next(mine: Iterator[Outcome]) -> Attempt:
    try:
        return next(mine, None)
    except DistTrainError as error:
        return error


def _or_raise(found: list[Attempt]) -> list[Outcome | None]:
    """Return the outcomes; on every rank, raise the error of the first rank that has one."""
    outcomes: list[Outcome | None] = []
    for each in found:
        if isinstance(each, DistTrainError):
            each.of_one_rank = False  # all ranks raise it now, and rank 0 prints it
            raise each
        outcomes.append(each)
    return outcomes
