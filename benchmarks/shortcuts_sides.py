"""The two forms of each part of a step that benchmarks/shortcuts.py compares: the shortcut and the public call."""

import itertools
import math
import time
from functools import partial
from operator import getitem
from typing import Any

import timm
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import optimizer as hooks
from torch.optim.swa_utils import get_ema_multi_avg_fn

MODELS = {"test_vit": 2, "test_efficientnet": 4}
"""Name of a timm model -> number of images of 32 px with which a step takes about 5 ms."""

TAKE = get_ema_multi_avg_fn(0.999)


def walk(optimizer: Any) -> None:
    step = type(optimizer).step
    hung_in = hooks._global_optimizer_pre_hooks or hooks._global_optimizer_post_hooks
    hung_in = hung_in or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    (step.__wrapped__ if getattr(step, "hooked", False) and not hung_in else step)(optimizer)


def drop_each(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def foreach_clip(parameters: Any, limit: float = 1.0) -> Any:
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    if limit < math.inf:
        torch._foreach_mul_(grads, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def public_clip(parameters: Any, limit: float = 1.0) -> Any:
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit < math.inf:
        clip_grads_with_norm_(parameters, limit, norm)
    return norm


def copy_each(copy: Any, newest: Any) -> None:
    for mine, theirs in zip(copy, newest, strict=True):
        mine.copy_(theirs)


PARTS: dict[str, tuple[Any, Any]] = {
    "`default_generator.manual_seed` / `torch.manual_seed`": (torch.default_generator.manual_seed, torch.manual_seed),
    "`_foreach_norm`, `_foreach_mul_` / `get_total_norm`, `clip_grads_with_norm_`": (foreach_clip, public_clip),
    "step around the hooks / `optimizer.step`": (walk, lambda optimizer: optimizer.step()),
    "`grad = None` for each / `optimizer.zero_grad`": (drop_each, lambda optimizer: optimizer.zero_grad()),
    "`_parameters` and `_buffers` / `getattr`": (getitem, getattr),
    "`_foreach_lerp_` / `get_ema_multi_avg_fn`": (
        partial(torch._foreach_lerp_, weight=1 - 0.999),
        lambda average, newest: TAKE(average, newest, 0),
    ),
    "`_foreach_copy_` / `copy_` for each": (torch._foreach_copy_, copy_each),
}
"""The shortcut and the public call of each part, in the order of a step."""


class Step:
    """A training step with AdamW, clipping and EMA; the parts named in ``public`` use the public call."""

    def __init__(self, name: str) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.model, self.mean = (timm.create_model(name, num_classes=10) for _ in range(2))
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, 1e-4, fused=True)
        self.images, self.labels = torch.randn(MODELS[name], 3, 32, 32), torch.arange(MODELS[name])
        # Where the EMA and the model keep their floats, and their other tensors: two dicts, or two modules, and a name.
        self.cells: dict[Any, list[Any]] = {(get, kind): [] for get in (getitem, getattr) for kind in (True, False)}
        for modules in zip(self.mean.modules(), self.model.modules(), strict=True):
            for mine, theirs in ([getattr(m, own) for m in modules] for own in ("_parameters", "_buffers")):
                for key, tensor in mine.items():
                    if tensor is not None:
                        self.cells[getitem, tensor.is_floating_point()].append((mine, theirs, key))
                        self.cells[getattr, tensor.is_floating_point()].append((*modules, key))

    def __call__(self, public: frozenset[str] = frozenset()) -> dict[str, float]:
        """Return the CPU seconds of each part, and of the ``whole``."""
        seed, clip, update, drop, get, lerp, copy = (sides[name in public] for name, sides in PARTS.items())
        marks = [time.process_time()]

        def mark() -> None:
            marks.append(time.process_time())

        seed(7)
        mark()
        cross_entropy(self.model(self.images), self.labels).backward()
        mark()
        clip(self.parameters)
        mark()
        update(self.optimizer)
        mark()
        drop(self.optimizer)
        mark()
        with torch.no_grad():
            pairs = [[(get(a, key), get(b, key)) for a, b, key in self.cells[get, kind]] for kind in (True, False)]
            mark()
            lerp(*zip(*pairs[0], strict=True))
            mark()
            if pairs[1]:
                copy(*zip(*pairs[1], strict=True))
        mark()
        spans = [end - began for began, end in itertools.pairwise(marks)]
        del spans[1]  # forward and backward
        return {**dict(zip(PARTS, spans, strict=True)), "whole": marks[-1] - marks[0]}


def ends_alike(name: str, part: str, steps: int = 20) -> bool:
    """Return whether the weights and their EMA have the same bits after some steps with the shortcut and without it."""
    sides = Step(name), Step(name)
    for _ in range(steps):
        sides[0](), sides[1](frozenset({part}))
    pairs = zip(*([*step.model.state_dict().values(), *step.mean.state_dict().values()] for step in sides), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def clipped_otherwise(cases: int = 200) -> int:
    """Return for how many random sets of gradients the bits differ (random sizes, layout, scale; a fifth not finite)."""
    return sum(not _clipped_alike(number) for number in range(cases))


def _clipped_alike(number: int) -> bool:
    torch.manual_seed(number)
    dims = torch.randint(1, 5, (1 + number % 60,)).tolist()
    shapes = [torch.randint(1, 99 if count < 3 else 9, (count,)).tolist() for count in dims]
    grads = [torch.randn(shape).mul_(10.0 ** (number % 9 - 4)).transpose(0, -1) for shape in shapes]
    grads.append(torch.tensor({0: math.nan, 5: math.inf}.get(number % 10, 0.5)))
    found = []
    for clip in (foreach_clip, public_clip):
        parameters = [torch.nn.Parameter(grad.clone()) for grad in grads]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad.clone()
        norm = clip(parameters, (math.inf, 1.0, 1e-3, 1e6)[number % 4])
        found.append([tensor.numpy().tobytes() for tensor in (norm, *(p.grad for p in parameters))])
    return found[0] == found[1]
