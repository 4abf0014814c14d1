"""Ids, ports and addresses of a SLURM task."""

import socket
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from launch.node import rendezvous
from launch.scheduler import scontrol

TASK = {
    "SLURM_JOB_ID": "18",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_PROCID": "1",
    "SLURM_NTASKS": "2",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.9",
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A controller that answers from this mapping of node names to addresses."""
    addresses = {"n1": "127.0.0.2"}
    monkeypatch.setattr(scontrol, "host_names", lambda _: ["n1", "n2"])
    monkeypatch.setattr(scontrol, "node_address", lambda host: addresses.get(host, host))
    return addresses


def test_place_of_a_task(cluster: dict[str, str]) -> None:
    place = rendezvous.slurm_place(TASK | {"SLURM_RESTART_COUNT": "3"})
    assert (place.job_id, place.restart, place.node, place.nodes) == ("18", 3, 1, 2)
    assert place.host == "127.0.0.2"
    assert place.start == "18.3"
    assert "--rdzv-conf=is_host=0,join_timeout=600" in rendezvous.agent_arguments(place)


def test_an_array_element_is_named_as_scontrol_wants_it(cluster: dict[str, str]) -> None:
    place = rendezvous.slurm_place(TASK | {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "1"})
    assert place.job_id == "17_1"
    assert place.port == rendezvous.port_of(18, 0)


def test_a_name_that_does_not_resolve_gives_the_launch_node(cluster: dict[str, str]) -> None:
    cluster["n1"] = "no-such-host.invalid"
    assert rendezvous.slurm_place(TASK).host == "10.0.0.9"


def test_a_name_that_resolves_to_loopback_is_not_believed(cluster: dict[str, str]) -> None:
    cluster["n1"] = "localhost"
    assert rendezvous.slurm_place(TASK).host == "10.0.0.9"


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_an_address_of_version_6(cluster: dict[str, str]) -> None:
    cluster["n1"] = "::1"
    place = rendezvous.slurm_place(TASK)
    assert (place.host, place.own) == ("::1", "::1")
    assert rendezvous.interface_of(place.own) == "lo"
    assert rendezvous.interface_of("2001:db8::1") is None


@pytest.mark.parametrize(
    ("found", "host"),
    [
        (["fe80::1%2", "2001:db8::1"], "2001:db8::1"),
        (["2001:db8::1", "192.0.2.1"], "192.0.2.1"),
        (["::1", "127.0.1.1"], "10.0.0.9"),
    ],
)
def test_a_name_may_have_addresses_of_both_versions(
    cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch, found: list[str], host: str
) -> None:
    cluster["n1"] = "n1"
    monkeypatch.setattr(rendezvous, "_own_address", lambda peer: peer)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 0)) for address in found])
    assert rendezvous.slurm_place(TASK).host == host


def test_two_tasks_on_a_node_are_refused(cluster: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="--ntasks-per-node=1"):
        rendezvous.slurm_place(TASK | {"SLURM_NTASKS": "4", "SLURM_NNODES": "2"})


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID", "SLURM_JOB_NODELIST"])
@pytest.mark.parametrize("malformed", [False, True])
def test_variables_that_a_job_left_over_are_refused(cluster: dict[str, str], name: str, malformed: bool) -> None:
    task = {key: text for key, text in TASK.items() if key != name}
    if malformed and name != "SLURM_JOB_NODELIST":
        task[name] = "2(x2)"
    with pytest.raises(ConfigError, match=f"{name} is missing or malformed"):
        rendezvous.slurm_place(task)


def test_a_malformed_count_of_restarts_is_none() -> None:
    assert [rendezvous.restarts({"SLURM_RESTART_COUNT": text}) for text in ("3", "", "x", "-1")] == [3, 0, 0, 0]


def test_ports_are_below_the_ephemeral_range_and_change_at_a_requeue() -> None:
    ports = [rendezvous.port_of(job, restart) for job in (1, 2, 99999) for restart in (0, 1)]
    assert len(set(ports)) == 6
    assert all(20000 <= port < 30000 for port in ports)


def test_interface_of_loopback() -> None:
    assert rendezvous.interface_of("127.0.0.1") == "lo"
    assert rendezvous.interface_of("192.0.2.1") is None
