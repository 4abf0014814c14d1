"""One MLflow run on its server: find or create it, read which rows it has, send rows and files."""

import math
import re
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from dist_train.run.metrics_file import Row

KEY_TAG = "dist_train.key"
"""The tag by which a run is found if this process was killed after it created the run and before it stored its id."""
MOST_METRICS = 1000
MOST_TEXTS = 100
LONGEST_PARAM = 500
"""Characters of a parameter that every MLflow server accepts; the newest accept 6000."""
LONGEST_TAG = 5000
_NOT_IN_A_NAME = re.compile(r"[^\w.\-/ ]")

T = TypeVar("T")


class Remote:
    """The run of this session on the server. Every method raises an error of mlflow or requests if the server fails."""

    def __init__(self, session: dict[str, Any], uri: str) -> None:
        """Find or create the run, and give it the settings that it lacks."""
        self._client = MlflowClient(tracking_uri=uri)
        live = self._known(session) or self._found(session) or self._created(session)
        self.run_id: str = live.info.run_id
        self.logged = logged_steps(live.data.metrics)
        """Split -> last step that the server has."""
        self._names, self._checked = set(live.data.metrics), set[str]()
        self._set_texts(session, live)

    def _known(self, session: dict[str, Any]) -> Run | None:
        """Return the run of the stored id; None if there is none, or somebody has deleted it."""
        if session["run_id"] is None:
            return None
        try:
            live = self._client.get_run(session["run_id"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return live if live.info.lifecycle_stage == "active" else None

    def _experiment_id(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        if known is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException as error:
                known = self._client.get_experiment_by_name(name)  # another run of a sweep has created it meanwhile
                if known is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        return str(known.experiment_id)

    def _found(self, session: dict[str, Any]) -> Run | None:
        where = [self._experiment_id(session["experiment"])]
        wanted = f"tags.`{KEY_TAG}` = '{session['key']}'"
        return next(iter(self._client.search_runs(where, wanted, ViewType.ACTIVE_ONLY, max_results=1)), None)

    def _created(self, session: dict[str, Any]) -> Run:
        where = self._experiment_id(session["experiment"])
        return self._client.create_run(where, tags={KEY_TAG: session["key"]}, run_name=session["name"])

    def _set_texts(self, session: dict[str, Any], live: Run) -> None:
        """Set parameters that are missing (MLflow allows no change), and all tags."""
        lacking = {name: value for name, value in session["params"].items() if _name(name) not in live.data.params}
        params = [Param(_name(name), _cut(value, LONGEST_PARAM)) for name, value in lacking.items()]
        tags = [RunTag(_name(name), _cut(value, LONGEST_TAG)) for name, value in session["tags"].items()]
        for some in _parts(params, MOST_TEXTS):
            self._client.log_batch(self.run_id, params=some)
        for some in _parts(tags, MOST_TEXTS):
            self._client.log_batch(self.run_id, tags=some)
        self._client.update_run(self.run_id, status="RUNNING")

    def send(self, rows: Iterable[Row]) -> None:
        """Log rows, in requests of at most 1000 values; a database stores a request as a whole or not at all."""
        now_ms = int(time.time() * 1000)
        for some in _parts((metric for row in rows for metric in self._new(metrics_of(row, now_ms))), MOST_METRICS):
            self._client.log_batch(self.run_id, metrics=some)

    def _new(self, metrics: list[Metric]) -> list[Metric]:
        """Return the values of a row that the server lacks: in a folder, a kill may have cut off the first row of a split."""
        split = metrics[-1].key.partition("/")[0]
        if split in self._checked:
            return metrics
        self._checked.add(split)
        return [metric for metric in metrics if metric.key not in self._names or not self._has(metric)]

    def _has(self, metric: Metric) -> bool:
        return any(known.step == metric.step for known in self._client.get_metric_history(self.run_id, metric.key))

    def add_file(self, path: str) -> None:
        """Upload a file as an artifact, in place of one of the same name."""
        self._client.log_artifact(self.run_id, path)

    def end(self, status: str) -> None:
        """Set the status: FINISHED, FAILED, or SCHEDULED for a run that goes on later."""
        if status == "stopped":
            self._client.update_run(self.run_id, status="SCHEDULED")
        else:
            self._client.set_terminated(self.run_id, "FINISHED" if status == "done" else "FAILED")


def metrics_of(row: Row, now_ms: int) -> list[Metric]:
    """Return the numbers of a row as ``<split>/<name>``, null as NaN; the last one, ``<split>/step``, says that all are there."""
    step, split = row["step"], _name(row["split"])
    numbers = {
        name: math.nan if value is None else float(value)
        for name, value in row.items()
        if name not in ("step", "split") and (value is None or isinstance(value, int | float))
    }
    return [
        Metric(f"{split}/{_name(name)}", value, now_ms, step)
        for name, value in (numbers | {"step": float(step)}).items()
    ]


def logged_steps(metrics: dict[str, float]) -> dict[str, int]:
    """Return split -> last step in the newest values of all metrics."""
    found = (name.split("/") for name in metrics)
    return {parts[0]: int(metrics[f"{parts[0]}/step"]) for parts in found if parts[1:] == ["step"]}


def _name(text: str) -> str:
    return _NOT_IN_A_NAME.sub("_", text)[:250]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _parts(items: Iterable[T], most: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, most)):
        yield some
