"""The network of this host: whether interfaces exist, and whether names resolve. Imports no torch."""

import fcntl
import ipaddress
import os
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

from dist_train.errors import ConfigError
from dist_train.system.machine.clock import awake_s

PATIENCE_S = 10.0
"""How long a name may take to resolve: a name server can be busy, and a new host's name can be young."""

GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"


def check_network(nccl: bool) -> None:
    """Raise an error if this rank cannot reach the others, as far as it can know at once. For ranks of torchrun.

    Args:
        nccl: NCCL will be used, besides gloo.

    Raises:
        ConfigError: a variable names a wrong network interface, or a host name does not resolve.
    """
    error = _fault(nccl)
    if error is not None:
        error.of_one_rank = os.environ.get("LOCAL_RANK", "0") == "0"  # once per node: the others may be well
        raise error


def _fault(nccl: bool) -> ConfigError | None:
    addresses = resolved(master := os.environ["MASTER_ADDR"])
    if not addresses:
        return ConfigError(
            f"the environment variable MASTER_ADDR ({master}) does not resolve on host {socket.gethostname()} within "
            f"{PATIENCE_S:g} s; give torchrun an address (--master-addr, --rdzv-endpoint, --local-addr), or mend /etc/hosts"
        )
    own = {address for name in _interfaces() for address in _addresses(name)}
    on_this_host = any(_is_loopback(address) or address in own for address in addresses)
    fault = _gloo_fault(on_this_host) or (_nccl_fault() if nccl else "")
    return ConfigError(fault) if fault else None


def _gloo_fault(on_this_host: bool) -> str:
    """Return why gloo cannot reach other ranks; an empty string if nothing is known against it.

    Args:
        on_this_host: the first rank is here, perhaps with all others.
    """
    if GLOO not in os.environ:
        return "" if on_this_host else _host_fault()
    for name in os.environ[GLOO].split(","):
        if not _addresses(name):
            return _wrong(GLOO, name, "has no address" if name in _interfaces() else "does not exist")
        if not on_this_host and all(map(_is_loopback, _addresses(name))):
            return _wrong(GLOO, name, f"does not lead to the other hosts (MASTER_ADDR is {os.environ['MASTER_ADDR']})")
    return ""


def _host_fault() -> str:
    """Return why other hosts could not connect to the address that gloo takes without a variable: that of the host name."""
    name = socket.gethostname()
    addresses = resolved(name)
    if addresses and not all(map(_is_loopback, addresses)):
        return ""
    leads = f"resolves to {addresses[0]}" if addresses else "does not resolve"
    return (
        f"the name of this host ({name}) {leads}, so that ranks on other hosts cannot reach it; set {GLOO} to the network "
        f"interface that leads to them ({_usable()}), or mend /etc/hosts"
    )


def _nccl_fault() -> str:
    """Return what is wrong with NCCL's list: beginnings of names, or whole names after ``=``, or others after ``^``."""
    wanted = os.environ.get(NCCL, "")
    if not wanted or wanted.startswith("^"):
        return ""
    whole, names = wanted.startswith("="), wanted.removeprefix("=").split(",")
    for own in _interfaces():
        if any(own == name if whole else own.startswith(name) for name in names):
            return ""
    return _wrong(NCCL, wanted, "does not exist")


def _wrong(variable: str, name: str, why: str) -> str:
    return (
        f"the environment variable {variable}: the network interface {name} {why} on host {socket.gethostname()}; unset it, or "
        f"set it to the one that leads to the other hosts ({_usable()})"
    )


def _usable() -> str:
    """Return the interfaces that have an address."""
    return ", ".join(name for name in _interfaces() if _addresses(name)) or "none with an address"


def _interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def resolved(host: str, patience_s: float | None = None) -> list[str]:
    """Return the addresses of a host; an empty list if its name does not resolve within ``patience_s`` (``PATIENCE_S``)."""
    deadline = awake_s() + (PATIENCE_S if patience_s is None else patience_s)
    while True:
        with suppress(OSError, UnicodeError):  # UnicodeError: a name with an empty part
            return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        if awake_s() > deadline:
            return []
        time.sleep(0.5)


def _addresses(interface: str) -> list[str]:
    """Return the IPv4 and IPv6 addresses of an interface."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        reply = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack("256s", interface.encode()[:15]))  # SIOCGIFADDR
        found.append(socket.inet_ntoa(reply[20:24]))
    with suppress(OSError):
        lines = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
        found += [str(ipaddress.IPv6Address(int(words[0], 16))) for words in lines if words[5] == interface]
    return found


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
