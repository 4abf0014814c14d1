"""The supervisor, one per node: start an agent, pass stop signals to its workers, requeue the job if needed.

SLURM may signal every process of a job or only this one, and may do so several times. Most of these signals kill torchrun's
agent or make it leave its workers. So the agent ignores them, and only the supervisor signals the workers; it repeats the
signal, because a worker that is still importing would miss one. The workers agree on a step, save and exit. Then the files
in the run folder and the state of the job in SLURM decide whether to requeue the job: see ``verdict.py``.

Started by ``launch/slurm.py`` through submitit, by ``slurm/*.sbatch``, and by ``--cluster local``.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_train.errors import EXIT_AGAIN, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, EXIT_USER, ConfigError
from dist_train.run.folder import RunDir
from dist_train.run.result import EXCHANGE, START_NAME, read_refusal, read_result
from dist_train.system import processes
from dist_train.system.files import FULL
from dist_train.system.machine.cores import usable_cores
from dist_train.system.signals import note_signals
from dist_train.system.streams import go_on_without, open_missing
from launch.jobs.container import check_runtime, contained, runtime_of
from launch.jobs.job import Task, config_of_job
from launch.jobs.job_options import SUPERVISOR, JobOptions, add_options
from launch.node import exchange, rendezvous
from launch.node.agent import AGENT, Agent, agent_command, start_agent
from launch.node.verdict import Facts, Verdict, hopeless, judge, judge_again, named_nodes
from launch.runs import starts
from launch.scheduler import scontrol

if TYPE_CHECKING:
    from launch.jobs.halving import Seat

_MARGIN_S = 3.0  # between our SIGKILL and SLURM's
_LINGER_S = 10.0  # how long an agent may wait for others once its own workers have ended well
_HOPELESS_S = 0.5  # less than workers take to start again; enough to print the error


class Supervisor:
    """Start, watch and end the agent of one node."""

    def __init__(self, task: Task, place: rendezvous.Place, signals: list[str]) -> None:
        self.task, self.place, self.signals = task, place, signals
        self.cfg = config_of_job(task.config, task.overrides)
        self.run = RunDir.of(self.cfg.run)
        self.walltime = False
        self.preempted = False
        self.name = f"{place.start} at {place.host}:{place.port}"
        self.earlier_result = read_result(self.run)
        job = scontrol.show_job(place.job_id) if place.slurm else scontrol.Job("RUNNING")
        self.end_time = job.end_time
        if job.state == "UNKNOWN":
            self.say("warning: scontrol does not answer (in a container? use --container): the job cannot be requeued")

    def __call__(self) -> int:
        """Run the workers until they end, then requeue or end the job. Return the exit code of this task."""
        processes.adopt_orphans()
        self._end_leftovers()
        if self.place.slurm and (last := self._ended_before()):
            return self._leave_again(last)
        if self.place.node == 0:
            starts.record_start(self.run, self.place.job_id, self.place.restart)
        command, env = agent_command(self.task, self.place), self._environment()
        meeting = f"{self.place.host}:{self.place.port}"
        self.say(f"start {self.place.start}, node {self.place.node} of {self.place.nodes}, meeting at {meeting}")
        code = self._watch(agent := self._start(command, env))
        agent.end_orphans(self._time_left)
        facts = self._facts(code)
        return self._act(judge(facts), preempted=facts.preempted)

    def _start(self, command: list[str], env: dict[str, str]) -> Agent:
        options, name = self.task.options, f"{self.name}, node {self.place.node}"
        if options.container is None:
            return start_agent(command, env, name)
        check_runtime(options)
        self.run.path.mkdir(parents=True, exist_ok=True)
        self.say(f"container {options.container}, by {runtime_of(options)}")
        named = env | {AGENT: name}
        inside = contained(options, command, named, self.cfg, [Path(self.task.config).parent])
        return start_agent(*inside, name, contained=True)

    def _ended_before(self) -> dict[str, Any] | None:
        return starts.ended_before(self.run, self.place.job_id, self.place.restart, scontrol.version())

    def _leave_again(self, last: dict[str, Any]) -> int:
        """Leave before any worker starts: an earlier start of this job has ended the run."""
        verdict = judge_again(last, self.place.job_id)
        if self.place.node != 0:  # node 0 alone records, so that all nodes read the same
            self.say(verdict.why)
            return EXIT_DONE
        starts.record_start(self.run, self.place.job_id, self.place.restart)
        return self._act(verdict, repeated=True)

    def say(self, text: str) -> None:
        """Print one line into the log of this node."""
        print(f"[supervisor {datetime.now():%H:%M:%S.%f} node {self.place.node}] {text}", flush=True)

    def result(self) -> dict[str, Any]:
        """Return ``result.json`` if this start wrote it, else the reason why this start was refused."""
        refusal = read_refusal(self.run, self.name)
        if refusal:
            return refusal
        result = read_result(self.run)
        return result if result != self.earlier_result else {}

    def _environment(self) -> dict[str, str]:
        env = dict(os.environ)
        # In the agent's own store, restarted workers would read the addresses of the dead ones.
        env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        cpus = usable_cores()
        env.setdefault("OMP_NUM_THREADS", str(max(1, cpus // self.task.procs)))
        if cpus < self.task.procs:
            self.say(f"warning: {self.task.procs} workers share {cpus} CPU(s); ask for more with --cpus-per-gpu")
        env[START_NAME] = self.name
        interface = rendezvous.interface_of(self.place.own)
        if interface:
            env.setdefault("GLOO_SOCKET_IFNAME", interface)
        if self._may_exchange():
            env[EXCHANGE] = "1"
        if self.end_time:
            env["SLURM_JOB_END_TIME"] = str(int(self.end_time))  # SLURM sets it since 23.02
        threads = env["OMP_NUM_THREADS"]
        self.say(f"{self.task.procs} worker(s), {cpus} CPU(s), {threads} thread(s) each, interface {interface}")
        return env

    def _watch(self, agent: Agent) -> int:
        """Wait for the agent and pass stop signals to its workers. Return the exit code of the agent."""
        deadline: float | None = None
        idle_since: float | None = None
        looked_at = 0.0
        while agent.process.poll() is None:
            time.sleep(0.1)
            now = time.time()
            if now - looked_at < 1 and (deadline or not self.signals):
                continue  # check once a second, and immediately after the first signal
            looked_at = now
            self._watch_walltime(now)
            workers = agent.workers()
            patience = self._patience_with_agent(working=bool(workers))
            idle_since = None if patience is None else idle_since or now
            if patience is not None and idle_since and now - idle_since > patience:
                self.say("the agent has no work left: killing it")
                agent.kill()
            if self.signals:
                if self.result().get("status") != "stopped":  # workers that have saved need no more signals
                    agent.ask_to_stop()
                if deadline is None:  # after the signal: a controller that preempts many jobs takes seconds to answer
                    self.say(f"{self.signals[0]}: asking {len(workers)} worker(s) to stop")
                    deadline = now + self._time_left()
                    self.say(f"{deadline - time.time():.0f} s left")
            if deadline and now > deadline:
                self.say("no time left, killing the workers")
                agent.kill()
        return agent.process.returncode

    def _patience_with_agent(self, working: bool) -> float | None:
        """Return the seconds after which to kill an idle agent; None while it has work."""
        result = self.result()
        if hopeless(result) or named_nodes(result):
            return _HOPELESS_S  # a restart of the workers would fail in the same way
        if result.get("status") in ("done", "stopped") and not working:
            return _LINGER_S  # it waits for the agents of other nodes, one of which may be dead
        return _LINGER_S if self.signals and not working else None

    def _watch_walltime(self, now: float) -> None:
        """Stop before SLURM ends the job, even if its warning signal does not come."""
        if self.signals or self.end_time is None or now < self.end_time - self.task.options.signal_delay:
            return
        self.end_time = (
            scontrol.show_job(self.place.job_id).end_time or self.end_time
        )  # the time limit may have changed
        if now >= self.end_time - self.task.options.signal_delay:
            self.signals.append("walltime")

    def _time_left(self) -> float:
        """Return the seconds that the workers have to save, by what SLURM says."""
        if not self.place.slurm:
            return float(self.task.options.signal_delay)
        job, patience = scontrol.show_job(self.place.job_id), float(scontrol.kill_wait_s())
        if job.preempted and not self.preempted:
            self.preempted = True
            if self.place.node == 0:  # now: this process may be killed, and later SLURM does not show it any more
                starts.record_preemption(self.run)
        if job.state == "RUNNING" and job.end_time:
            to_end = job.end_time - time.time()
            self.walltime = not job.preempted and to_end < self.task.options.signal_delay + 60
            if job.preempted or self.walltime:
                patience += to_end
        return max(2.0, min(self.task.options.signal_delay + 60.0, patience - _MARGIN_S))

    def _end_leftovers(self) -> None:
        """Kill workers of an earlier start that SLURM did not end: two trainers must not write into one run folder."""
        if not self.place.slurm:
            return
        job, current = f"{self.place.job_id}.", f"{self.place.start} at "
        left = processes.with_variable(AGENT, lambda name: name.startswith(job) and not name.startswith(current))
        if left:
            self.say(f"killing {len(left)} process(es) of an earlier start")
            processes.send(left, signal.SIGKILL)

    def _facts(self, agent_code: int) -> Facts:
        job = scontrol.show_job_surely(self.place.job_id) if self.place.slurm else scontrol.Job("RUNNING")
        return Facts(
            result=self.result(),
            history=starts.history(self.run, self.place.job_id),
            job_state=job.state,
            preempted=self.preempted or job.preempted,
            signals=self.signals,
            walltime=self.walltime,
            agent_code=agent_code,
            requeues=self.place.restart,
            max_requeues=self.task.options.max_requeues,
            slurm=self.place.slurm,
            exclude=exchange.nodes(self.run, self.name) if self._may_exchange() else (),
        )

    def _may_exchange(self) -> bool:
        return self.place.slurm and exchange.left(self.run, self.place.job_id) > 0

    def _act(self, verdict: Verdict, **details: bool) -> int:
        self.say(f"{verdict.action}: {verdict.why}")
        if self.place.node == 0 or verdict.action == "fail":  # on "fail" srun kills the other supervisors
            starts.record_end(self.run, verdict.action, verdict.why, **details, **verdict.details)
        if verdict.action == "fail":
            print(f"error: {verdict.why}", file=sys.stderr, flush=True)
            return EXIT_FAILED
        if not self.place.slurm:
            return EXIT_DONE if verdict.action == "done" else EXIT_STOPPED if verdict.action == "leave" else EXIT_AGAIN
        again = verdict.action == "requeue"
        if again and (complaint := scontrol.requeue_without(self.place.job_id, verdict.exclude)):
            print(f"error: SLURM does not requeue the job: {complaint}", file=sys.stderr, flush=True)
            return EXIT_FAILED
        return EXIT_DONE  # any other code would make srun kill the other supervisors before they are ready


def supervise(task: Task) -> None:
    """Supervise a node. submitit calls this in every task of the job; our signal handlers replace its own."""
    sys.exit(_supervise(task, lambda: rendezvous.slurm_place(os.environ), note_signals()))


def supervise_seat(seat: "Seat") -> None:
    """Supervise a node of a sweep with halving: the run that takes the seat, which depends on the scores so far."""
    signals = note_signals()
    task, place = seat.task(), rendezvous.slurm_place(os.environ)
    if place.node == 0:
        seat.record(place.job_id, place.nodes)
    sys.exit(_supervise(task, lambda: place, signals))


def _supervise(task: Task, find_place: Callable[[], rendezvous.Place], signals: list[str]) -> int:
    open_missing()
    go_on_without()  # a full disk of the log ends no job
    try:
        return Supervisor(task, find_place(), signals)()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return EXIT_USER
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"error: {error}: make room, then the same command resumes the run", file=sys.stderr, flush=True)
        return EXIT_FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m launch.supervise --config FILE [key=value ...]``, under srun or on this machine."""
    signals = note_signals()
    parser = argparse.ArgumentParser(prog="python -m launch.supervise", description="Supervise one node of a run.")
    add_options(parser, ("config", *SUPERVISOR))
    local = parser.add_argument_group("without SLURM")
    local.add_argument("--node", type=int, default=0)
    local.add_argument("--nodes", type=int, default=1)
    local.add_argument("--port", type=int, help="port of the rendezvous on this machine")
    local.add_argument("--restart", type=int, default=0)
    args = parser.parse_intermixed_args(argv)
    if args.config is None:
        parser.error("--config FILE is missing")
    task = Task(args.config, args.overrides, JobOptions.parsed(args))
    # --cluster local gives a port. It may run inside a SLURM allocation, whose job must not be requeued.
    if args.port is None and rendezvous.in_slurm_task():
        return _supervise(task, lambda: rendezvous.slurm_place(os.environ), signals)
    place = rendezvous.local_place(args.node, args.nodes, args.port or rendezvous.free_port(), args.restart)
    return _supervise(task, lambda: place, signals)


if __name__ == "__main__":
    sys.exit(main())
