"""Compiled kernels are code: they come from a folder of this user."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from dist_train.config.sections.model import CompileConfig
from dist_train.errors import ConfigError
from dist_train.training.parts.compiled import FOLDERS, compile_model, repeated_blocks, restored_compiler
from tests.support.runs import changed, resumes_exactly


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in FOLDERS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("before", [None, "torchinductor_me"])
def test_the_default_is_a_folder_of_this_user(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before:  # as an import of torch's compiler sets it
        monkeypatch.setenv(FOLDERS[0], str(temporary / before))
    compile_model(nn.Linear(1, 1), CompileConfig())
    folder = Path(os.environ[FOLDERS[0]])
    assert folder == temporary / f"dist_train-{os.geteuid()}" / "compiled"
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_chosen_folder_in_which_others_write_is_refused(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (temporary / "kernels").mkdir()
    monkeypatch.setenv(name, str(temporary / "kernels"))
    (temporary / "kernels").chmod(0o755)
    compile_model(nn.Linear(1, 1), CompileConfig())
    (temporary / "kernels").chmod(0o777)
    with pytest.raises(ConfigError, match=rf"`{name}`: other users can write to .*kernels"):
        compile_model(nn.Linear(1, 1), CompileConfig())


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        ("test_vit", "blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5"),
        ("resnet18", "layer1.0 layer1.1 layer2.0 layer2.1 layer3.0 layer3.1 layer4.0 layer4.1"),
        (
            "test_convnext",
            "stages.0 stages.1.blocks.0 stages.1.blocks.1 stages.2.blocks.0 stages.2.blocks.1 stages.2.blocks.2 stages.2.blocks.3 stages.3.blocks.0 stages.3.blocks.1",
        ),
    ],
)
def test_the_blocks_that_models_repeat(model: str, blocks: str) -> None:
    module = timm.create_model(model)
    names = {part: name for name, part in module.named_modules()}
    assert " ".join(names[block] for block in repeated_blocks(module)) == blocks


@pytest.fixture
def graphs(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The graphs that are made from now on; they run without torch's code generator, which takes minutes."""
    graphs: list[str] = []
    compile_part = nn.Module.compile

    def counted(part: nn.Module, **options: object) -> None:
        def backend(graph: torch.fx.GraphModule, _: object) -> object:
            graphs.append(type(part).__name__)
            return graph.forward

        compile_part(part, backend=backend, dynamic=options["dynamic"])

    monkeypatch.setattr(nn.Module, "compile", counted)
    torch.compiler.reset()
    with restored_compiler():
        yield graphs
    torch.compiler.reset()


class _Block(nn.Sequential):
    """torch 2.11 does not compile modules of its own classes one by one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = layer(x)
        return x


class _Blocks(nn.Module):
    """Twelve blocks of one class, each with a number of its own, as with stochastic depth."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_Block(nn.Linear(4, 4), nn.Dropout(0.01 * i)) for i in range(12)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the compiler looks at it
def test_blocks_are_compiled_each_for_itself(graphs: list[str]) -> None:
    model, images = _Blocks(), torch.ones(2, 4)
    before = model.eval()(images)
    compile_model(model, CompileConfig(blocks=True))
    assert torch.equal(model(images), before)
    model.train()(images)
    assert len(graphs) > 8, "torch's own limit, beyond which it goes on without the compiler"


def test_a_second_size_gets_a_graph_of_its_own_and_leaves_the_first(graphs: list[str]) -> None:
    model = _Block(nn.Linear(4, 4))
    compile_model(model, CompileConfig())
    for size in (2, 3, 2, 5, 3):
        model(torch.ones(size, 4))
    assert len(graphs) == 3


def test_the_settings_of_a_program_come_back(graphs: list[str]) -> None:
    compiler, dynamo = torch.compiler.config, torch._dynamo.config
    before = (compiler.recompile_limit, dynamo.optimize_ddp)
    with pytest.raises(KeyError), restored_compiler():
        for _ in range(2):
            compile_model(_Blocks(), CompileConfig(blocks=True))
        assert (compiler.recompile_limit, dynamo.optimize_ddp) == (before[0] + 2 * 12 * 8, False)
        raise KeyError
    assert (compiler.recompile_limit, dynamo.optimize_ddp) == before


def test_a_model_without_blocks_is_refused(temporary: Path) -> None:
    with pytest.raises(ConfigError, match=r"`model.compile.blocks` \(true\): the model has no `nn.Sequential`"):
        compile_model(nn.Linear(1, 1), CompileConfig(blocks=True))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_run_with_compiled_blocks_resumes_exactly(tree: dict[str, Any], world_size: int) -> None:
    model = {"name": "test_vit", "pretrained": False, "drop_path": 0.1, "compile": {"blocks": True}}
    keys = {
        "model": model,
        "train__ema": 0.9,
        "checkpoint": {"every_steps": 2, "keep": 9},
        "distributed__timeout_s": 900,
    }
    resumes_exactly(changed(tree, **keys), world_size, kept=1)
