"""Published weights: which file they are in, where this machine caches it, and how to download it.

Without network, a missing file quickly leads to an error that says how to fetch it.
"""

import inspect
import socket
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from dist_train.config.sections.model import ModelConfig
from dist_train.config.user_code import is_own
from dist_train.errors import ConfigError
from dist_train.model.backbones import timm_weights, torchvision_weights
from dist_train.model.sources.hub import DESCRIPTION, WEIGHTS, hub_model
from dist_train.system.progress import advance, shown

PATIENCE_S = 5.0
"""How many seconds to wait for a first answer from the network."""


@dataclass(frozen=True)
class WeightsSource:
    """The place where the weights of a model are published.

    Attributes:
        repo: the repository on the Hugging Face hub; empty if the weights have a plain URL.
        revision: the revision in the repository; None means the newest.
        files: possible file names in the repository, the preferred first; or the one URL.
        custom: whether only the model's own loader can read the format of the file.
    """

    repo: str
    revision: str | None
    files: tuple[str, ...]
    custom: bool = False

    @property
    def cache(self) -> Path:
        """Return the folder that caches such files."""
        return Path(constants.HF_HUB_CACHE) if self.repo else Path(torch.hub.get_dir()) / "checkpoints"

    def cached(self) -> Path | None:
        """Return the cached file, or None."""
        if not self.repo and Path(self.files[0]).is_absolute():
            return next((Path(name) for name in self.files if Path(name).is_file()), None)
        if not self.repo:
            path = self.cache / Path(urlsplit(self.files[0]).path).name
            return path if path.is_file() else None
        for name in self.files:
            found = huggingface_hub.try_to_load_from_cache(
                self.repo, name, cache_dir=constants.HF_HUB_CACHE, revision=self.revision
            )
            if isinstance(found, str):
                return Path(found)
        return None

    def __str__(self) -> str:
        return f"{self.files[0]} of the hub's repository {self.repo}" if self.repo else self.files[0]


def published(cfg: ModelConfig) -> WeightsSource:
    """Return where the weights of ``model.name`` are published.

    Raises:
        ConfigError: there are no published weights.
    """
    if is_own(cfg.name):
        raise ConfigError(
            f"`model.pretrained` (true): {cfg.name} is your own model and has no published weights; set it to false, "
            "or set `model.weights=FILE` if you have a file"
        )
    if cfg.source == "torchvision":
        return WeightsSource("", None, (torchvision_weights(cfg.name).url,))
    hub = hub_model(cfg.name)
    if hub is not None:
        files = WEIGHTS if hub.repo else tuple(str(Path(hub.path) / name) for name in WEIGHTS)
        return WeightsSource(hub.repo, hub.revision, files)
    known = timm_weights(cfg.name)
    if known is not None and known.hf_hub_id:
        repo, _, revision = known.hf_hub_id.partition("@")
        if known.hf_hub_filename:
            return WeightsSource(repo, revision or None, (known.hf_hub_filename,), known.custom_load == "hf")
        return WeightsSource(
            repo, revision or None, (constants.SAFETENSORS_SINGLE_FILE, constants.PYTORCH_WEIGHTS_NAME)
        )
    if known is not None and known.url:
        return WeightsSource("", None, (known.url,), bool(known.custom_load))
    raise ConfigError(
        f"`model.pretrained` (true): timm {timm.__version__} has no published weights of {cfg.name}; "
        "set it to false for random ones, or `model.weights=FILE`"
    )


def obtain_description(cfg: ModelConfig) -> None:
    """Check the description of a model of the hub or in a folder. Download it into the cache if it is not there.

    Raises:
        ConfigError: the download failed, or the description is missing or damaged.
    """
    hub = hub_model(cfg.name) if cfg.source == "timm" else None
    if hub is None:
        return
    if hub.repo and hub.folder is None:
        source = WeightsSource(hub.repo, hub.revision, (DESCRIPTION,))
        if offline := _why_offline(source):
            raise ConfigError(f"{hub.missing()} ({offline})")
        download(cfg, source)
    hub.described()


def obtain(cfg: ModelConfig) -> tuple[Path, WeightsSource]:
    """Return the file with the published weights, from the cache or over the network, and where it is published.

    Raises:
        ConfigError: the file is not in the cache, and the download fails.
    """
    source = published(cfg)
    path = source.cached()
    if path is not None:
        return path, source
    if Path(source.files[0]).is_absolute():
        raise ConfigError(
            f"`model.pretrained` (true): {cfg.name} has neither {' nor '.join(WEIGHTS)}; check the path, or set "
            "model.pretrained=false for random weights"
        )
    offline = _why_offline(source)
    if offline:
        raise ConfigError(_missing(cfg, source, offline))
    return download(cfg, source), source


def download(cfg: ModelConfig, source: WeightsSource) -> Path:
    """Download the file into the cache, and return its path.

    Raises:
        ConfigError: the download failed.
    """
    fault: Exception | None = None
    for name in source.files:
        try:
            with shown(f"downloading {name} for {cfg.name}", "bytes"):
                return _from_hub(source, name) if source.repo else _from_url(source, name)
        except huggingface_hub.errors.EntryNotFoundError as error:
            fault = fault or error  # the repository may have the next file name
        except OSError as error:
            raise ConfigError(_missing(cfg, source, str(error).splitlines()[0])) from None
    raise ConfigError(_missing(cfg, source, str(fault).splitlines()[0]))


def _from_hub(source: WeightsSource, name: str) -> Path:
    # Older hubs do not know the argument; there the download counts as alive as long as it uses the main thread.
    known = "tqdm_class" in inspect.signature(huggingface_hub.hf_hub_download).parameters
    options: dict[str, Any] = {"tqdm_class": _Counted} if known else {}
    return Path(huggingface_hub.hf_hub_download(source.repo, name, revision=source.revision, **options))


def _from_url(source: WeightsSource, name: str) -> Path:
    path = source.cache / Path(urlsplit(name).path).name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(name, str(path), progress=False)
    return path


class _Counted(tqdm):
    """The hub's progress bar, which also says that the download is alive: another thread than the caller's may do it."""

    def update(self, n: float | None = 1) -> bool | None:
        advance(int(n or 0))
        return super().update(n)


def timm_overlay(path: Path, source: WeightsSource) -> dict[str, Any]:
    """Return the options that make timm read ``path`` instead of the network."""
    return {"file": str(path), "custom_load": source.custom, "source": ""}


def _missing(cfg: ModelConfig, source: WeightsSource, reason: str) -> str:
    setting = "HF_HOME" if source.repo else "TORCH_HOME"
    return (
        f"`model.pretrained` (true): the weights of {cfg.name} are not on this machine ({reason}). "
        f"Missing: {source}; searched in {source.cache} (the environment variable {setting} changes this folder). "
        "Run `python -m dist_train.fetch --config FILE` on a machine with network; "
        "or set `model.weights=FILE`, or `model.pretrained=false` for random weights"
    )


def _why_offline(source: WeightsSource) -> str:
    """Return why the network cannot be used; empty if it answers."""
    if source.repo and constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = urlsplit(constants.ENDPOINT if source.repo else source.files[0])
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy and not urllib.request.proxy_bypass(address.hostname or ""):
        address = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    if address.scheme == "file" or _answers(host, port):
        return ""
    return f"{host} does not answer within {PATIENCE_S:g} s"


def _answers(host: str, port: int) -> bool:
    """Return whether the host accepts connections. Uses a thread, since an unreachable name server can take minutes."""
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PATIENCE_S).close()
            answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return answered.is_set()
