"""The optimizers of timm by name, and those that this trainer refuses."""

import subprocess
import sys

import pytest
import timm.optim
from torch import nn

from dist_train.config.sections.optim import OptimConfig
from dist_train.errors import ConfigError
from dist_train.learning.optimizers.build import build_optimizer

HEAD = frozenset({"1.weight", "1.bias"})


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


@pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum'")
def test_every_timm_optimizer_can_be_built_or_says_why_not() -> None:
    built, refused = [], {}
    for name in timm.optim.list_optimizers():
        try:
            optimizer = build_optimizer(OptimConfig(name=name, lr=0.1), two_layers(), HEAD)
            built.append(name)
            assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
        except ConfigError as error:
            refused[name] = str(error)
    assert {"adafactor", "adan", "kron", "lars", "lion", "madgrad", "muon", "nadamw", "novograd"} <= set(built)
    needs_another_package = {name for name in refused if name.startswith(("bnb", "fused"))}
    assert set(refused) - needs_another_package <= {"adahessian"}
    assert all(f"`optim.name` ({name})" in message for name, message in refused.items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adamww", r"`optim.name` \(adamww\) is unknown: it is neither sgd, .* did you mean adamw or (?!adamw)\w+"),
        ("adahessian", "needs second derivatives"),
        ("lookahead_adam", "lookahead keeps a copy of the weights that checkpoints cannot save; use adam"),
    ],
)
def test_an_optimizer_that_cannot_be_is_an_error(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_optimizer(OptimConfig(name=name, lr=0.1), two_layers(), HEAD)
    with pytest.raises(ConfigError, match=r"`optim.name` \(sgd\) cannot be built: Nesterov momentum requires"):
        build_optimizer(OptimConfig(lr=0.1, momentum=0.0, nesterov=True), two_layers(), HEAD)


def test_a_run_without_them_does_not_import_what_they_need() -> None:
    """A step and its backward pass with a gradient of NaN or 1, too: sympy and DTensor are 0.4 s and 40 MB in each process."""
    code = (
        "import sys, torch\n"
        "import dist_train.training.attempt\n"
        "from dist_train.config.sections.optim import OptimConfig\n"
        "from dist_train.config.sections.train import TrainConfig\n"
        "from dist_train.learning.optimizers.build import build_optimizer\n"
        "from dist_train.learning.precision import Precision\n"
        "module = torch.nn.Linear(2, 2)\n"
        "build_optimizer(OptimConfig(name='adamw', lr=1, decay_norm_and_bias=False), module, frozenset())\n"
        "Precision(TrainConfig(global_batch=1), torch.device('cpu')).backward(module(torch.ones(1, 2)).sum(), torch.ones(()))\n"
        "print({'sympy', 'torch.distributed.tensor', 'timm.optim', 'triton'} & sys.modules.keys())\n"
    )
    begin = "from dist_train.system.imports.fast_imports import quick_imports\nwith quick_imports():\n    import dist_train.training.attempt\n"
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
