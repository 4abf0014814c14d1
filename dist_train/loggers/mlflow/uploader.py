"""The uploader: a separate process that follows ``metrics.jsonl`` and logs its rows to one MLflow run.

We do not store which rows MLflow has, but ask the server at each start and after each error. So every row is logged exactly
once, even if the trainer or this process was killed, or an answer of the server was lost.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_INCOMPLETE
from dist_train.loggers.mlflow.files import VARIABLE, how_to_sync, only_uploader_of, read_session, say, session_path
from dist_train.loggers.mlflow.remote import Remote
from dist_train.loggers.upload.following import NewRows, at_most, follow
from dist_train.loggers.upload.messages import one_line
from dist_train.run.folder import RunDir
from dist_train.system.files import write_json
from dist_train.system.signals import ignore_stop_signals

LOCK_S = 60.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


def main(argv: list[str]) -> int:
    """Return 0 if the server has every row, else 4."""
    ignore_stop_signals()  # some clusters signal every process; the trainer says when to end
    os.nice(5)
    run = RunDir(Path(argv[0]))
    with only_uploader_of(run, wait_s=LOCK_S) as alone:  # the uploader of the last attempt may still run
        session = read_session(run)
        if not alone or not session:
            say(f"another process is uploading {run.path}" if session else f"{session_path(run)} is missing or damaged")
            return EXIT_INCOMPLETE
        sender = Sender(run, session, os.environ[VARIABLE])
        ending = follow(sender.try_to_send, session["trainer_pid"])
        with at_most(ending["limit_s"], say, how_to_sync(run, session["uri"])):
            sender.finish(ending["status"])
    return 0


class Sender:
    """Sends what the server lacks. After an error it asks the server again what that is."""

    def __init__(self, run: RunDir, session: dict[str, Any], uri: str) -> None:
        self._run, self._session, self._uri = run, session, uri
        self._remote: Remote | None = None
        self._pause_s, self._next_try = FIRST_PAUSE_S, 0.0

    def try_to_send(self) -> None:
        """Send new rows. After an error wait, longer each time, before the next attempt."""
        if time.monotonic() < self._next_try:
            return
        try:
            self.send()
        except Exception as error:  # noqa: BLE001 - mlflow raises what its stores and requests raise
            self._lost(error)
        else:
            self._recovered()

    def send(self) -> Remote:
        """Connect if necessary, and send new rows. Return the run on the server."""
        if self._remote is None:
            remote = Remote(self._session, self._uri)
            self._store(remote.run_id)
            self._rows = NewRows(self._run.metrics, remote.logged)
            self._remote = remote
            self._send_files(remote, [self._run.config, self._run.look])
        self._remote.send(self._rows.take())
        return self._remote

    def finish(self, status: str) -> None:
        """Send the rest and set the status; try again until that succeeds."""
        while True:
            try:
                return self.send_all(status)
            except Exception as error:  # noqa: BLE001 - see try_to_send
                self._lost(error)
                time.sleep(FIRST_PAUSE_S)

    def send_all(self, status: str) -> None:
        """Send rows and files, and set the status of the run, which has ended.

        Raises:
            Exception: what mlflow raises if the server does not answer.
        """
        remote = self.send()
        if status == "done":
            self._send_files(remote, [self._run.result])
            if self._session.get("report"):
                self._send_files(remote, [self._run.report])
        remote.end(status)

    def _send_files(self, remote: Remote, paths: list[Path]) -> None:
        """Upload the files that exist. An artifact store that does not work must not keep the rows back."""
        for path in filter(Path.exists, paths):
            try:
                remote.add_file(str(path))
            except Exception as error:  # noqa: BLE001 - each kind of store raises its own
                say(f"{path.name} was not uploaded: {one_line(error)}")

    def _store(self, run_id: str) -> None:
        if run_id != self._session["run_id"]:
            if self._session["run_id"] is not None:
                say(f"the run {self._session['run_id']} is not on the server any more; all rows go to a new one")
            self._session["run_id"] = run_id
            newest = read_session(self._run) or self._session  # the trainer of the next attempt may have written it
            write_json(session_path(self._run), newest | {"run_id": run_id})
        if self._pause_s == FIRST_PAUSE_S:
            say(f"logging to {self._session['uri']}, experiment {self._session['experiment']}, run {run_id}")

    def _lost(self, error: Exception) -> None:
        self._remote = None
        if self._pause_s == FIRST_PAUSE_S:
            say(f"{one_line(error)}. Training continues, and the rows are sent when the server answers")
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._next_try = time.monotonic() + self._pause_s

    def _recovered(self) -> None:
        if self._pause_s != FIRST_PAUSE_S:
            say(f"{self._session['uri']} answers again; every row has been sent")
        self._pause_s = FIRST_PAUSE_S


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # threads of the client may wait for a server that hangs
