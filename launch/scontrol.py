"""Ask SLURM by ``scontrol`` and ``sinfo``. If SLURM is missing or does not answer, results are empty: nothing is raised."""

import os
import re
import subprocess
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """The state of one job, or of one task of an array."""

    state: str = "UNKNOWN"
    preempted: bool = False
    """SLURM preempts the current start; it runs on for its grace time."""
    end_time: float | None = None
    """Unix time at which SLURM will end the job: its walltime, or the end of the grace time of a preemption."""
    restarts: int = 0
    reason: str = ""
    nodes: str = ""

    @property
    def over(self) -> bool:
        """Whether the job has ended and will not start again."""
        return self.state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "UNKNOWN")


def show_job(job_id: str) -> Job:
    """Return the job with an id such as ``17`` or ``17_3``."""
    fields = _fields(run("scontrol", "show", "job", "-o", job_id))
    if "JobState" not in fields:
        return Job()
    return Job(
        state=fields["JobState"],
        preempted=fields["JobState"] == "RUNNING" and fields.get("PreemptTime", "None") != "None",
        end_time=_unix_time(fields.get("EndTime", "")),
        restarts=int(fields.get("Restarts", "0")),
        reason=fields.get("Reason", ""),
        nodes=fields.get("NodeList", ""),
    )


def kill_wait_s() -> int:
    """Return the seconds between SLURM's SIGTERM and SIGKILL; SLURM's default if it does not answer."""
    match = re.search(r"^KillWait\s*=\s*(\d+)", run("scontrol", "show", "config"), re.MULTILINE)
    return int(match[1]) if match else 30


def show_job_surely(job_id: str, patience_s: float = 120.0) -> Job:
    """Return the job; ask again for a while if the controller does not answer."""
    give_up_at = time.time() + patience_s
    while (job := show_job(job_id)).state == "UNKNOWN" and time.time() < give_up_at:
        time.sleep(2)
    return job


def requeue(job_id: str, patience_s: float = 60.0) -> str:
    """Requeue the job with the same id. Return SLURM's error message, or an empty string."""
    give_up_at = time.time() + patience_s
    while complaint := _call("scontrol", "requeue", job_id).stderr.strip():
        if show_job(job_id).state not in ("RUNNING", "UNKNOWN"):
            return ""  # another supervisor or SLURM has requeued it
        if time.time() > give_up_at:
            return complaint
        time.sleep(2)
    return ""


def host_names(node_list: str) -> list[str]:
    """``n[1-2]`` -> ``["n1", "n2"]``."""
    return run("scontrol", "show", "hostnames", node_list).split()


def node_address(host: str) -> str:
    """Return the address that SLURM uses for a node; the node's name if SLURM does not answer."""
    return _fields(run("scontrol", "show", "node", "-o", host)).get("NodeAddr", host)


def gpus_in_a_node(partition: str | None) -> int | None:
    """Return the largest number of GPUs of a node in the partition (None: the default partition); None without an answer."""
    chosen = ["-p", partition] if partition else []
    lines = run("sinfo", "-h", "-o", "%P %G", *chosen).splitlines()
    if not lines:
        return None
    if not partition:
        lines = [line for line in lines if line.split()[0].endswith("*")] or lines
    counts = [sum(int(n) for n in re.findall(r"gpu(?::[^:,()]+)?:(\d+)", line.split()[-1])) for line in lines]
    return max(counts)


def partitions() -> list[str]:
    """Return the names of all partitions."""
    return sorted({name.rstrip("*") for name in run("sinfo", "-h", "-o", "%P").split()})


def run(*command: str) -> str:
    """Return the standard output of a command; empty if it fails, hangs or does not exist."""
    done = _call(*command)
    return done.stdout if done.returncode == 0 else ""


def _call(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=_env())
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def _env() -> dict[str, str]:
    """Return an environment in which SLURM writes times in the form that ``_unix_time`` reads."""
    return {**os.environ, "SLURM_TIME_FORMAT": "standard"}


def _fields(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def _unix_time(stamp: str) -> float | None:
    try:
        return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:  # "Unknown", or nothing
        return None
