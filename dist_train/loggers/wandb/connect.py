"""Reach W&B or fall back: which mode, and a W&B run that continues the one of this folder."""

import ssl
import urllib.error
import urllib.request
from typing import Any, Literal

import wandb

from dist_train.loggers.wandb.files import history, how_to_sync, logged_steps, say, segments_of, session_path
from dist_train.run.folder import RunDir
from dist_train.system.files import write_json

PROBE_S = 5.0
INIT_S = 30.0
STEP = "trainer/global_step"
Mode = Literal["online", "offline"]


def connect(run: RunDir, session: dict[str, Any]) -> Any:
    """The W&B run, online if wanted and possible, else offline; None if wandb cannot start at all."""
    reason = None if session["mode"] == "offline" else why_not_online()
    if session["mode"] != "offline" and reason is None:
        live, reason = _try_start(run, session, "online")
        if live is not None:
            say(f"logging to {live.url}")
            return live
    because = f", because {reason}" if reason else ""
    live, reason = _try_start(run, session, "offline")
    if live is None:
        say(f"off, because {reason}; metrics.jsonl has every row. {how_to_sync(run)}")
        return None
    say(f"offline{because}. {how_to_sync(run)}")
    return live


def connect_online(run: RunDir, session: dict[str, Any]) -> Any:
    """The W&B run on the server; None, with the reason said, if that cannot be."""
    reason = why_not_online()
    live = None
    if reason is None:
        live, reason = _try_start(run, session, "online")
    if live is None:
        say(f"{run.path} is not uploaded, because {reason}")
    return live


def why_not_online() -> str | None:
    """What keeps us from the server; None if nothing does. Quick, and never prompts.

    A key that the server does not know shows in `wandb.init`, at once.
    """
    url = "the server"
    try:
        url = wandb.setup().settings.base_url
        if not wandb.login(prompt=False, verify=False):
            return "there is no API key (run `wandb login`, or set WANDB_API_KEY)"
        _knock(url)
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except OSError as error:
        return f"{url} does not answer ({getattr(error, 'reason', error)})"
    except (wandb.errors.Error, ValueError) as error:  # a key or an address that cannot be right
        return _one_line(error)
    return None


def already_logged(live: Any, run: RunDir) -> dict[str, int]:
    """The last step of each split that W&B has: the server says it, or the segments on disk do."""
    if live.offline:
        rows = [row for segment in segments_of(run.path / "wandb", live.id) for row in history(segment)]
    else:
        rows = [dict(live.summary)]
    return logged_steps(rows)


def on_server(session: dict[str, Any]) -> tuple[dict[str, int], int]:
    """The last step of each split that the server has of this run, and its number of history rows.

    Raises:
        wandb.errors.Error: the server did not answer the question. It may well have rows.
    """
    path = "/".join(filter(None, (session["entity"], session["project"], session["id"])))
    try:
        known = wandb.Api(timeout=round(PROBE_S)).run(path)
        return logged_steps([dict(known.summary)]), int(known.historyLineCount or 0)
    except (wandb.errors.Error, ValueError) as error:
        if "Could not find run" in str(error):
            return {}, 0
        raise


def _knock(url: str) -> None:
    """See that something answers: wandb itself would wait for minutes. It also judges the certificate, by its settings."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=PROBE_S, context=trusting):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise


def _try_start(run: RunDir, session: dict[str, Any], mode: Mode) -> tuple[Any, str | None]:
    try:
        live = _start(run, session, mode)
    except Exception as error:  # noqa: BLE001 - wandb raises many kinds, and none may matter to the training
        wandb.teardown()  # else the id counts as in use
        return None, f"{mode} mode failed: {_one_line(error)}"
    write_json(session_path(run), session | {"entity": live.entity or session["entity"], "url": live.url})
    return live, None


def _start(run: RunDir, session: dict[str, Any], mode: Mode) -> Any:
    settings = wandb.Settings(
        init_timeout=INIT_S,
        console="off",  # the trainer's output is not ours
        silent=True,
        disable_git=True,  # the config has the commit of the code, not of the working directory
        save_code=False,
        x_save_requirements=False,
        x_stats_pid=session["trainer_pid"],
    )
    names = {key: session[key] for key in ("id", "project", "entity", "name", "group", "job_type", "tags", "notes")}
    # "allow" is what makes segments of one id join, online and in `wandb sync`
    live = wandb.init(
        mode=mode, dir=str(run.path), resume="allow", config=session["config"], settings=settings, **names
    )
    live.define_metric(STEP)
    live.define_metric("*", step_metric=STEP)  # W&B's own step cannot go back; ours is a value like others
    return live


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
