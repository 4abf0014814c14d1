"""Ask SLURM by ``scontrol``. If SLURM is missing or does not answer, results are empty: nothing is raised."""

import os
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

UNKNOWN = "UNKNOWN"
"""SLURM does not answer."""
FORGOTTEN = "FORGOTTEN"
"""SLURM answers that it has no such job: it ended more than ``MinJobAge`` ago, or belongs to another cluster."""
_FINAL = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "RECONFIG_FAIL", "TIMEOUT", FORGOTTEN),
)
"""All other states are live, also those that a newer SLURM adds: to take a live job for ended would lose it."""
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")


KEEPS_GRACE = (24, 5)
"""From this release on, SLURM starts a job once more after its end if it was once preempted with a grace time: it notes the
preemption in the job, and requeues the job when its batch script next ends without a request to requeue it."""
NO_PROGRAM, HANGS = 127, 124
"""Exit codes of ``call`` for a program that does not exist, and for one that does not end in time."""


@dataclass(frozen=True)
class Job:
    """The state of one job, or of one task of an array."""

    state: str = UNKNOWN
    preempted: bool = False
    """SLURM preempts the current start; it runs on for its grace time. Later SLURM does not show it any more."""
    end_time: float | None = None
    """Unix time at which SLURM will end the job: its walltime, or the end of the grace time of a preemption."""
    restarts: int = 0
    reason: str = ""
    nodes: str = ""
    ran_s: float | None = None
    """Seconds that this start has run, without those in which it was suspended."""

    @property
    def over(self) -> bool:
        """Whether the job has ended and will not start again."""
        return self.state in _FINAL

    @property
    def waiting(self) -> bool:
        """Whether the job is in the queue and has no nodes."""
        return self.state in _WAITING

    @property
    def why_waiting(self) -> str:
        """Why a job in the queue does not start, such as ``" (Resources)"``; else empty."""
        return f" ({self.reason})" if self.waiting and self.reason not in ("", "None") else ""


def show_job(job_id: str) -> Job:
    """Return the job with an id such as ``17`` or ``17_3``."""
    answer = call("scontrol", "show", "job", "-o", job_id)
    fields = _fields(answer.stdout)
    if "JobState" not in fields:
        return Job(FORGOTTEN if "Invalid job id" in answer.stderr else UNKNOWN)
    return Job(
        state=fields["JobState"],
        preempted=fields["JobState"] == "RUNNING" and fields.get("PreemptTime", "None") != "None",
        end_time=_unix_time(fields.get("EndTime", "")),
        restarts=int(fields.get("Restarts", "0")),
        reason=fields.get("Reason", ""),
        nodes=fields.get("NodeList", ""),
        ran_s=_seconds(fields.get("RunTime", "")),
    )


def version() -> tuple[int, int]:
    """Return the release of SLURM, such as (24, 11); (0, 0) without SLURM. This asks no controller."""
    match = re.search(r"(\d+)\.(\d+)", run("scontrol", "--version"))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def kill_wait_s() -> int:
    """Return the seconds between SLURM's SIGTERM and SIGKILL; SLURM's default if it does not answer."""
    match = re.search(r"^KillWait\s*=\s*(\d+)", run("scontrol", "show", "config"), re.MULTILINE)
    return int(match[1]) if match else 30


def show_job_surely(job_id: str, patience_s: float = 120.0) -> Job:
    """Return the job; ask again for a while if the controller does not answer."""
    give_up_at = time.time() + patience_s
    while (job := show_job(job_id)).state == UNKNOWN and time.time() < give_up_at:
        time.sleep(2)
    return job


def requeue(job_id: str, patience_s: float = 60.0) -> str:
    """Requeue the job with the same id. Return SLURM's error message, or an empty string."""
    give_up_at = time.time() + patience_s
    while complaint := call("scontrol", "requeue", job_id).stderr.strip():
        if show_job(job_id).state not in ("RUNNING", UNKNOWN):
            return ""  # another supervisor or SLURM has requeued it
        if time.time() > give_up_at:
            return complaint
        time.sleep(2)
    return ""


def requeue_without(job_id: str, nodes: Iterable[str]) -> str:
    """Requeue the job so that it does not start on these nodes. Return SLURM's error message, or an empty string."""
    return requeue(job_id) or (exclude(job_id, nodes) if nodes else "")


def exclude(job_id: str, nodes: Iterable[str], patience_s: float = 20.0) -> str:
    """Let a job that was just requeued start without these nodes. Return SLURM's error message, or an empty string.

    SLURM changes the list of a job in the queue only, not that of one that runs.
    """
    before = _fields(call("scontrol", "show", "job", "-o", job_id).stdout).get("ExcNodeList", "(null)")
    names = [*([] if before in ("(null)", "") else [before]), *nodes]
    give_up_at = time.time() + patience_s
    while complaint := call("scontrol", "update", f"JobId={job_id}", f"ExcNodeList={','.join(names)}").stderr.strip():
        if time.time() > give_up_at:
            return complaint
        time.sleep(0.5)
    return ""


def host_names(node_list: str) -> list[str]:
    """``n[1-2]`` -> ``["n1", "n2"]``."""
    return run("scontrol", "show", "hostnames", node_list).split()


def node_address(host: str) -> str:
    """Return the address that SLURM uses for a node; the node's name if SLURM does not answer."""
    return _fields(run("scontrol", "show", "node", "-o", host)).get("NodeAddr", host)


def lost_nodes(node_list: str, since: float) -> list[str]:
    """Return the nodes that SLURM does not reach, or whose slurmd has started after the Unix time ``since``."""
    found = []
    for line in run("scontrol", "show", "node", "-o", node_list).splitlines() if node_list else []:
        node = _fields(line)
        silent = any(word in node.get("State", "") for word in ("DOWN", "NOT_RESPONDING", "*"))
        if silent or (_unix_time(node.get("SlurmdStartTime", "")) or 0.0) > since:
            found.append(node.get("NodeName", "?"))
    return found


def run(*command: str) -> str:
    """Return the standard output of a command; empty if it fails, hangs or does not exist."""
    done = call(*command)
    return done.stdout if done.returncode == 0 else ""


def call(*command: str, patience_s: float = 60.0, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a command, and kill it after ``patience_s`` seconds."""
    limits: dict[str, Any] = {"capture_output": True, "text": True, "timeout": patience_s, "check": False}
    try:
        return subprocess.run(command, input=stdin, env=_env(), **limits)
    except OSError as error:
        return subprocess.CompletedProcess(command, NO_PROGRAM, "", str(error))
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, HANGS, "", str(error))


def _env() -> dict[str, str]:
    """Return an environment in which SLURM writes times in the form that ``_unix_time`` reads, and ``sinfo`` all partitions."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SINFO_")}
    return {**kept, "SLURM_TIME_FORMAT": "standard"}


def _fields(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def _seconds(duration: str) -> float | None:
    """Return the seconds of ``[days-]hours:minutes:seconds``."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", duration)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds if match else None


def _unix_time(stamp: str) -> float | None:
    try:
        return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:  # "Unknown", or nothing
        return None
