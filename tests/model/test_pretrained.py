"""Published weights from the cache, from a local server, and without a network."""

import http.server
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
import yaml

from dist_train.config.sections.model import ModelConfig
from dist_train.errors import ConfigError
from dist_train.model.build import build_model
from tests.support.commands import AS_A_COMMAND

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a hub's repository and of a plain web server."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    weights = timm.create_model("test_vit").state_dict()
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    torch.save(torchvision.models.squeezenet1_1().state_dict(), folder / "squeezenet.pth")
    return folder


class Hub(http.server.SimpleHTTPRequestHandler):
    """As much of a hub as a download of one file takes."""

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(code, message)
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef01234567"')
        self.send_header("X-Repo-Commit", "f" * 40)
        if code == 404:
            self.send_header("X-Error-Code", "EntryNotFound")

    def translate_path(self, path: str) -> str:
        return super().translate_path("/" + path.rpartition("/")[2])

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def hub(published: Path) -> Iterator[str]:
    """The address of a server with the published files."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Hub(*a, directory=str(published)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def run(code: str, home: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run Python with empty caches under ``home``."""
    clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("proxy")}
    clean |= {"HF_HOME": str(home / "hf"), "TORCH_HOME": str(home / "torch"), "PYTHONPATH": str(ROOT), **environment}
    began = time.monotonic()
    command = [sys.executable, "-c", AS_A_COMMAND + code]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, cwd=home, timeout=200, check=False)
    return done, time.monotonic() - began


BUILD = """
import time, torch
from dist_train.config.sections.model import ModelConfig
from dist_train.errors import ConfigError
from dist_train.model.build import build_model
began = time.monotonic()
try:
    network = build_model(ModelConfig(source={source!r}, name={name!r}, pretrained=True), 3, {size})
except ConfigError as error:
    print("refused", error)
else:
    print("sum", network.module.state_dict()[{key!r}].double().sum().item())
print("took", time.monotonic() - began)
"""


def build(home: Path, source: str = "timm", name: str = "test_vit", size: int = 160, **environment: str) -> str:
    code = BUILD.format(
        source=source, name=name, size=size, key="norm.weight" if source == "timm" else "features.0.bias"
    )
    done, _ = run(code, home, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def took(out: str) -> float:
    return float(out.split("took ")[1])


def test_fetch_then_train_without_network(hub: str, published: Path, tmp_path: Path) -> None:
    config = {
        "run": {"name": "x"},
        "model": {"name": "test_vit"},
        "data": {"root": "."},
        "optim": {"lr": 0.1},
        "train": {"global_batch": 4},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    fetch = (
        "import sys; from dist_train.fetch import main; from dist_train.system.progress import advanced; "
        "code = main(['--config', 'c.yaml']); print('signs of life:', advanced()); sys.exit(code)"
    )
    done, _ = run(fetch, tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    assert "fetched model.safetensors of the hub's repository timm/test_vit.r160_in1k as " in done.stdout
    assert str(tmp_path / "hf") in done.stdout
    assert re.search(r"signs of life: [1-9]", done.stdout), "other ranks hear that the download goes on"
    expected = safetensors.torch.load_file(published / "model.safetensors")["norm.weight"].double().sum().item()
    out = build(tmp_path, HF_HUB_OFFLINE="1")
    assert float(out.split()[1]) == expected
    resized = BUILD.format(source="timm", name="test_vit", size=96, key="norm.weight")
    again, _ = run(fetch.replace("sys.exit(code)", "") + resized, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert again.stdout.startswith("already there: ")
    assert float(again.stdout.split("sum ")[1].split()[0]) == expected, "at another image size too"


@pytest.mark.parametrize(
    ("source", "name", "environment", "words"),
    [
        ("timm", "test_vit", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ("timm", "test_vit", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "127.0.0.1 does not answer within 5 s"),
        ("torchvision", "squeezenet1_1", {"https_proxy": "http://127.0.0.1:9"}, "127.0.0.1 does not answer within 5 s"),
    ],
)
def test_without_network_it_fails_at_once_and_says_what_to_do(
    tmp_path: Path, source: str, name: str, environment: dict[str, str], words: str
) -> None:
    out = build(tmp_path, source, name, **environment)
    assert out.startswith(f"refused `model.pretrained` (true): the weights of {name} are not on this machine")
    assert words in out
    cache = "hf/hub" if source == "timm" else "torch/hub/checkpoints"
    assert (
        f"searched in {tmp_path / cache} (the environment variable {'HF_HOME' if source == 'timm' else 'TORCH_HOME'} changes"
        in out
    )
    assert "python -m dist_train.fetch --config FILE" in out
    assert "`model.weights=FILE`, or `model.pretrained=false`" in out
    assert took(out) < 20, "at once, or after a few seconds on a busy machine"


@pytest.mark.slow
def test_torchvisions_file_is_read_from_its_cache(published: Path, tmp_path: Path) -> None:
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url  # type: ignore[attr-defined]
    cached = tmp_path / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
    cached.parent.mkdir(parents=True)
    cached.write_bytes((published / "squeezenet.pth").read_bytes())
    out = build(tmp_path, "torchvision", "squeezenet1_1", 64)
    state = torch.load(published / "squeezenet.pth", weights_only=True)
    assert float(out.split()[1]) == state["features.0.bias"].double().sum().item()


def test_a_file_that_the_hub_has_not_is_an_error(hub: str, published: Path, tmp_path: Path) -> None:
    (published / "model.safetensors").rename(published / "elsewhere")
    try:
        out = build(tmp_path, HF_ENDPOINT=hub)
    finally:
        (published / "elsewhere").rename(published / "model.safetensors")
    assert out.startswith("refused `model.pretrained` (true): the weights of test_vit are not on this machine (404")


def test_a_model_without_published_weights_says_so() -> None:
    name = "vit_small_patch16_18x2_224"
    with pytest.raises(ConfigError, match=f"has no published weights of {name}; set it to false"):
        build_model(ModelConfig(name=name, pretrained=True), 3, 160)
