"""The buffers in a step: whether it made one of them NaN or infinite, and their old values if it is skipped."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dist_train.errors import ConfigError
from dist_train.model.cells import Cell, cells, tensor_in

UNCHECKED = ("torch.float8", "torch.float4")
"""How the names of formats begin for which torch has no arithmetic."""


class StepBuffers:
    """The tensors that forward passes change: buffers, and parameters that the objective changes itself.

    All of them are copied into one tensor per dtype, because an operation for each would take longer than 1 % of a step.
    Nothing here waits for the device, except ``note_finite`` and ``not_finite``.

    Args:
        changing: parameters of the objective that its forward pass changes (``OwnParts.changing``).
    """

    def __init__(self, objective: nn.Module, changing: Iterable[Tensor]) -> None:
        own = {id(tensor) for tensor in changing}
        parameters = {
            name: cell for name, cell in cells(objective, "_parameters").items() if id(tensor_in(cell)) in own
        }
        every = cells(objective, "_buffers") | parameters
        kinds: dict[Any, dict[str, Cell]] = {}
        for name, cell in every.items():
            kinds.setdefault((tensor_in(cell).dtype, min(tensor_in(cell).ndim, 2)), {})[name] = cell
        self._groups = [_Group(named) for named in kinds.values()]
        self._checked = [group for group in self._groups if group.checked]
        self._one: Tensor | None = None
        self.note_finite()

    @torch.no_grad()
    def note_finite(self) -> None:
        """Note which values are finite now. ``soundness`` looks at these only: a mask of attention may hold -inf."""
        for group in self._checked:
            group.note_finite()

    @torch.no_grad()
    def keep(self) -> None:
        """Keep a copy of the values, for ``put_back_unless``: at the start, and after any change outside of steps."""
        for group in self._groups:
            group.keep()

    def soundness(self, loss: Tensor, last: bool) -> Tensor:
        """Return 1; NaN if the loss is not finite, or a value of a buffer was finite and no longer is.

        Args:
            loss: float32 [] on the device, without a graph.
            last: look at the buffers, too: this is the last micro-batch of the step.

        Returns:
            float32 [] on the device.
        """
        if self._one is None:
            self._one = torch.ones_like(loss)
        sound = torch.add(self._one, loss, alpha=0)
        return self._with_flaws(sound) if last and self._checked else sound

    @torch.no_grad()
    def _with_flaws(self, sound: Tensor) -> Tensor:
        for group in self._checked:
            sound = sound + group.flaw()
        return sound

    @torch.no_grad()
    def put_back_unless(self, finite: Tensor) -> None:
        """Restore the values from before the step unless ``finite``, bool [] on the device, is true."""
        if finite.is_cuda:
            for group in self._groups:
                group.put_back_unless(finite)
        elif finite:  # reading a flag on the CPU does not wait
            self.keep()
        else:
            for group in self._groups:
                group.put_back()

    @torch.no_grad()
    def not_finite(self) -> list[str]:
        """Return the names of the tensors with a value that was finite and no longer is. Waits for the device."""
        return [name for group in self._checked for name in group.not_finite()]


class _Group:
    """Tensors of one dtype: scalars, vectors, or tensors of any shape."""

    def __init__(self, named: dict[str, Cell]) -> None:
        self._named = named
        self._shapes = [tensor.shape for tensor in self._tensors()]
        self._join = (torch.stack, torch.cat, _flat)[min(len(self._shapes[0]), 2)]
        self._finite: Tensor | None = None
        self.kept = self._join(self._tensors())
        self._shape = self.kept.shape
        self._chosen, self._zero = torch.empty_like(self.kept), torch.zeros_like(self.kept)
        self._views, self._chosen_views = self._views_of(self.kept), self._views_of(self._chosen)

    @property
    def checked(self) -> bool:
        """Return whether the tensors may hold NaN."""
        known = not str(self.kept.dtype).startswith(UNCHECKED)
        return known and (self.kept.is_floating_point() or self.kept.is_complex())

    def _views_of(self, values: Tensor) -> list[Tensor]:
        parts = torch.split(values, [shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _tensors(self) -> list[Tensor]:
        return [place[key] for place, key in self._named.values()]

    def joined(self) -> Tensor:
        """Return a copy of all values, [N].

        Raises:
            ConfigError: a tensor has another shape than at the start.
        """
        tensors = self._tensors()
        try:
            values = self._join(tensors)
        except (RuntimeError, TypeError):
            raise self._of_other_shape() from None
        if values.shape != self._shape:
            raise self._of_other_shape()
        return values

    def _of_other_shape(self) -> ConfigError:
        pairs = zip(self._named, self._tensors(), self._shapes, strict=True)
        name, now, before = next((name, now.shape, before) for name, now, before in pairs if now.shape != before)
        return ConfigError(
            f"the buffer {name} had the shape {list(before)} at the start, and has {list(now)} in a training step; "
            "a checkpoint could not be loaded: keep its shape, or keep the value outside of buffers"
        )

    def note_finite(self) -> None:
        """Note which values are finite now."""
        finite = self.joined().isfinite()
        self._finite = None if finite.all() else finite

    def _noted(self) -> Tensor:
        """Return all values, with 0 for those that were not finite before."""
        return self.joined() if self._finite is None else self.joined().where(self._finite, 0)

    def flaw(self) -> Tensor:
        """Return 0; NaN if a value that was finite no longer is."""
        product = torch.dot(self._noted(), self._zero)
        return product.abs() if product.is_complex() else product

    def keep(self) -> None:
        """Keep a copy of the values."""
        self.kept = self.joined()
        if self.kept.is_cuda:
            self._views = self._views_of(self.kept)

    def put_back(self) -> None:
        """Restore the kept values."""
        torch._foreach_copy_(self._tensors(), self._views_of(self.kept))

    def put_back_unless(self, finite: Tensor) -> None:
        """Restore the kept values unless ``finite`` is true; keep the values of now for the next step."""
        torch.where(finite, self.joined(), self.kept, out=self._chosen)
        self.kept, self._chosen = self._chosen, self.kept
        self._views, self._chosen_views = self._chosen_views, self._views
        torch._foreach_copy_(self._tensors(), self._views)

    def not_finite(self) -> list[str]:
        """Return the names of the tensors with a value that was finite and no longer is."""
        parts = torch.split(self._noted().isfinite(), [shape.numel() for shape in self._shapes])
        return [name for name, part in zip(self._named, parts, strict=True) if not part.all()]


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
