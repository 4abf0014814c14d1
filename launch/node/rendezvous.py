"""The place of this node in its job, and the address of the rendezvous of all torchrun agents.

Host names may not resolve on a node, or resolve to a loopback address. So we take the addresses from SLURM. Every agent
gets its own address and whether it hosts the rendezvous; gloo gets the network interface.
"""

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dist_train.errors import ConfigError
from launch.scheduler import scontrol

_FIRST_PORT, _PORTS = 20000, 10000  # below the range from which Linux chooses ports


@dataclass(frozen=True)
class Place:
    """This node and the other nodes of its job."""

    job_id: str
    """Id for ``scontrol``: ``17``, or ``17_3`` for a task of an array; ``local`` without SLURM."""
    restart: int
    node: int
    nodes: int
    host: str
    """Address of the first node."""
    own: str
    """Address of this node."""
    port: int
    slurm: bool = True

    @property
    def start(self) -> str:
        """Name of this start of this job."""
        return f"{self.job_id}.{self.restart}"


def slurm_place(env: Mapping[str, str]) -> Place:
    """Return the place of this SLURM task.

    Raises:
        ConfigError: a node has more than one task, or this is no task of a SLURM job.
    """
    wrong = [name for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID") if not env.get(name, "").isdecimal()]
    if wrong or "SLURM_JOB_NODELIST" not in env:
        raise ConfigError(
            f"{wrong[0] if wrong else 'SLURM_JOB_NODELIST'} is missing or malformed: is the shell that of a job that has "
            "ended? Start the supervisor with srun, inside a job"
        )
    if env["SLURM_NTASKS"] != env.get("SLURM_NNODES", env["SLURM_NTASKS"]):
        raise ConfigError(
            f"{env['SLURM_NTASKS']} tasks on {env['SLURM_NNODES']} node(s): each node must have one task, the supervisor, "
            "which starts the workers; use --ntasks-per-node=1"
        )
    restart = restarts(env)
    hosts = scontrol.host_names(env["SLURM_JOB_NODELIST"]) or [env["SLURM_JOB_NODELIST"]]
    host = _address(hosts[0], env)
    return Place(
        job_id=job_id(env),
        restart=restart,
        node=int(env["SLURM_PROCID"]),
        nodes=int(env["SLURM_NTASKS"]),
        host=host,
        own=_own_address(host),
        port=port_of(int(env["SLURM_JOB_ID"]), restart),
    )


def job_id(env: Mapping[str, str]) -> str:
    """Return the id for ``scontrol``. A task of an array also has a raw id, but only this id can requeue it."""
    if "SLURM_ARRAY_JOB_ID" in env:
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return env["SLURM_JOB_ID"]


def restarts(env: Mapping[str, str]) -> int:
    """Return how often SLURM has requeued this job."""
    text = env.get("SLURM_RESTART_COUNT", "0")
    return int(text) if text.isdecimal() else 0


def local_place(node: int, nodes: int, port: int, restart: int) -> Place:
    """Return the place of one of several groups of processes that act as nodes on one machine."""
    return Place("local", restart, node, nodes, host="127.0.0.1", own="127.0.0.1", port=port, slurm=False)


def port_of(job: int, restart: int) -> int:
    """Return a port that differs from the ports of neighbouring jobs and of the last start of this job."""
    return _FIRST_PORT + (job * 16 + restart) % _PORTS


def agent_arguments(place: Place) -> list[str]:
    """Return the rendezvous options of ``python -m torch.distributed.run``."""
    return [
        f"--nnodes={place.nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={place.host}:{place.port}",
        f"--rdzv-id={place.start}",
        f"--rdzv-conf=is_host={int(place.node == 0)},join_timeout=600",
        f"--local-addr={place.own}",
    ]


def interface_of(address: str) -> str | None:
    """Return the network interface of an address, such as ``eth0``; None if there is none."""
    if ":" in address:
        return _interface_of_version_6(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                reply = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
            except OSError:  # an interface without an IPv4 address
                continue
            if socket.inet_ntoa(reply[20:24]) == address:
                return name
    return None


def _interface_of_version_6(address: str) -> str | None:
    wanted = socket.inet_pton(socket.AF_INET6, address.partition("%")[0]).hex()
    table = Path("/proc/net/if_inet6")
    lines = table.read_text().splitlines() if table.exists() else []
    return next((line.split()[-1] for line in lines if line.startswith(wanted)), None)


def _address(host: str, env: Mapping[str, str]) -> str:
    """Return an address of ``host`` that other nodes can reach."""
    known = scontrol.node_address(host)
    if _is_address(known):
        return known
    try:
        found = [
            ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(known, None, type=socket.SOCK_STREAM)
        ]
    except OSError:
        found = []
    usable = [str(address) for address in found if not (address.is_loopback or address.is_link_local)]
    usable.sort(key=lambda address: ":" in address)  # version 4 first, where a node has both
    # srun runs on the first node; SLURM passes the address of that node to every task.
    return usable[0] if usable else env.get("SLURM_LAUNCH_NODE_IPADDR", known)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _own_address(peer: str) -> str:
    """Return our address on the route to ``peer``. (To connect a datagram socket sends nothing.)"""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))
        return str(probe.getsockname()[0])


def free_port() -> int:
    """Return a port that is free on this machine now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_slurm_task(env: Mapping[str, str] = os.environ) -> bool:
    """Return whether srun started this process."""
    return "SLURM_PROCID" in env and "SLURM_JOB_ID" in env
