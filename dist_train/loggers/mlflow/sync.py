"""Upload what the MLflow server lacks of runs that have ended.

It is safe to interrupt this command and to repeat it. Live runs are skipped, with a message.
"""

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dist_train.errors import EXIT_DONE, EXIT_FAILED
from dist_train.loggers.mlflow.files import CLIENT_SETTINGS, VARIABLE, only_uploader_of, read_session, session_path
from dist_train.loggers.mlflow.wanted import absolute, without_login
from dist_train.run.folder import RunDir, fault_of_folder
from dist_train.run.lock import held_by_another
from dist_train.run.result import read_result
from dist_train.system.foreign_text import printable
from dist_train.system.program import Parser, program
from dist_train.system.terminal import given_path


def main(argv: Sequence[str]) -> int:
    """Return the exit code: 1 if the server lacks rows of a run."""
    parser = Parser(prog=program("mlflow-sync"), description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", type=given_path, help="run folders, or patterns in quotes")
    parser.add_argument("--uri", help=f"server, database or folder to which the runs were logged (default: {VARIABLE})")
    args = parser.parse_args(argv)
    uri = args.uri or os.environ.get(VARIABLE)
    if not uri:
        parser.error(f"give --uri or {VARIABLE}: a run folder does not decide where your password goes")
    folders = [Path(found) for pattern in map(str, args.runs) for found in sorted(glob.glob(pattern)) or [pattern]]
    troubles = [f"{folder}: {trouble}" for folder in folders if (trouble := _sync(RunDir(folder), absolute(uri)))]
    for line in troubles:
        print(printable(line), file=sys.stderr)
    return EXIT_FAILED if troubles else EXIT_DONE


def _sync(run: RunDir, uri: str) -> str | None:
    """Send what the server lacks. Return why that was not possible. Whatever is wrong with a folder, the next run is not affected."""
    try:
        if fault := fault_of_folder(run.path):
            return fault
        session = read_session(run)
        if not session:
            there = session_path(run).exists()
            return f"{session_path(run)} is damaged" if there else "this run was not logged to MLflow"
        if session["uri"] != without_login(uri):
            return f"logged to {session['uri']}, not to {without_login(uri)}: give --uri {session['uri']}"
        with only_uploader_of(run, wait_s=0.0) as alone:
            if not alone or held_by_another(run.lock):
                return "live, skipped"
            return _send(run, session, uri)
    except (OSError, ValueError) as error:
        return f"not uploaded, because its folder cannot be used ({error})"


def _send(run: RunDir, session: dict[str, object], uri: str) -> str | None:
    os.environ.update(CLIENT_SETTINGS)
    from dist_train.loggers.mlflow.uploader import Sender  # imports mlflow

    status = read_result(run).get("status", "failed")
    try:
        Sender(run, session, uri).send_all(status)
    except Exception as error:  # noqa: BLE001 - mlflow raises what its stores and requests raise
        return f"INCOMPLETE: {type(error).__name__}: {' '.join(str(error).split())[:300]}; run this again"
    return None
