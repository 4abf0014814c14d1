"""Wrong network interfaces and names that do not resolve are errors at once, on this host and in made-up ones."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from dist_train.system.machine import network
from dist_train.system.machine.network import GLOO, NCCL, check_network, resolved

ROOT = Path(__file__).parents[2]
NO_SUCH = "no-such-host.invalid"


@pytest.fixture(autouse=True)
def one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PATIENCE_S", 0.5)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for name in (GLOO, NCCL, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("gloo", [None, "lo"])
def test_a_usual_host_has_no_fault(monkeypatch: pytest.MonkeyPatch, gloo: str | None) -> None:
    if gloo:
        monkeypatch.setenv(GLOO, gloo)
    check_network(nccl=True)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (GLOO, "eth99", "GLOO_SOCKET_IFNAME: the network interface eth99 does not exist on host"),
        (GLOO, "lo,eth99", "eth99 does not exist"),
        (GLOO, "", "does not exist"),
        (GLOO, "a-name-that-is-far-too-long", "does not exist"),
        (NCCL, "ib9", "NCCL_SOCKET_IFNAME: the network interface ib9 does not exist"),
        (NCCL, "=l", "does not exist"),
        ("MASTER_ADDR", NO_SUCH, f"MASTER_ADDR \\({NO_SUCH}\\) does not resolve on host .* within 0.5 s"),
        ("MASTER_ADDR", "a..b", "does not resolve"),
        ("MASTER_ADDR", "", "does not resolve"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words) as refused:
        check_network(nccl=True)
    assert refused.value.of_one_rank, "the first rank of the node prints it, whatever its number"


@pytest.mark.parametrize("value", ["l", "=lo", "^eth", "eth99,lo"])
def test_what_nccl_understands(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(NCCL, value)
    check_network(nccl=True)
    monkeypatch.setenv(NCCL, "ib9")
    check_network(nccl=False)


def test_a_name_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    assert resolved("localhost", patience_s=5)
    assert resolved("127.0.0.1") == ["127.0.0.1"]
    assert resolved(NO_SUCH, patience_s=1) == []
    assert time.monotonic() - began >= 1


MADE_UP_HOST = """
from dist_train.errors import ConfigError
from dist_train.system.machine import network
network.PATIENCE_S = 0.2
try:
    network.check_network(nccl=False)
    print("no fault")
except ConfigError as error:
    print(error)
"""


def _on_made_up_host(commands: str, **environment: str) -> str:
    """What ``check_network`` says in a network of its own, on a host called ``made-up``."""
    if os.geteuid() or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("takes root, unshare and ip to make up a host")
    script = f'hostname made-up && {commands} && exec {sys.executable} -c "$CODE"'
    done = subprocess.run(
        ["unshare", "--net", "--uts", "sh", "-ec", script],
        env=os.environ | {"CODE": MADE_UP_HOST, "PYTHONPATH": str(ROOT), "MASTER_ADDR": "10.99.0.2", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot make up a host here: {done.stderr.strip()}")
    return done.stdout.strip()


UP = "ip link set lo up"
WIRED = f"{UP} && ip link add wire0 type bridge && ip addr add 10.99.0.1/24 dev wire0 && ip link set wire0 up"


@pytest.mark.parametrize(
    ("commands", "environment", "words"),
    [
        (WIRED, {}, "the name of this host (made-up) does not resolve"),
        (WIRED, {}, "set GLOO_SOCKET_IFNAME to the network interface that leads to them (lo, wire0)"),
        (WIRED, {GLOO: "wire0"}, "no fault"),
        (WIRED, {GLOO: "lo"}, "the network interface lo does not lead to the other hosts (MASTER_ADDR is 10.99.0.2)"),
        (WIRED, {"MASTER_ADDR": "10.99.0.1"}, "no fault"),
        (f"{UP} && ip link add wire0 type bridge", {GLOO: "wire0"}, "the network interface wire0 has no address"),
    ],
)
def test_on_several_hosts_the_others_must_be_able_to_connect(
    commands: str, environment: dict[str, str], words: str
) -> None:
    assert words in _on_made_up_host(commands, **environment)
