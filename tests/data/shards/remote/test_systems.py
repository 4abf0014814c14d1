"""The file systems of fsspec: one that is not installed, and servers that say nothing."""

import socket

import fsspec
import pytest
from fsspec.asyn import sync

from dist_train.data.index import scan
from dist_train.data.shards.remote import systems
from dist_train.data.shards.remote.systems import system_of
from dist_train.errors import DataError
from tests.support.data_roots import data_config


def test_a_file_system_that_fsspec_does_not_know() -> None:
    with pytest.raises(DataError, match=r"cannot read nowhere://a: .*pip install 'dist_train\[remote\]'"):
        scan(data_config("nowhere://a", format="tar"))  # type: ignore[arg-type]


def test_a_server_of_google_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """gcsfs tries six times with growing waits, so that the test calls what it does once."""
    monkeypatch.setattr(systems, "SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        system = system_of("gs://photos/set")
        with pytest.raises(TimeoutError):
            sync(system.loop, system._request.__wrapped__, system, "GET", "b/photos")
