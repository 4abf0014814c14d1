"""Start the W&B run of a run folder: online if the server answers, else offline."""

import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Literal

import wandb

from dist_train.loggers.upload.messages import one_line
from dist_train.loggers.wandb.files import history, how_to_sync, logged_steps, say, segments_of, session_path
from dist_train.run.folder import RunDir
from dist_train.system.files import write_json

PROBE_S = 5.0
INIT_S = 30.0
STEP = "trainer/global_step"
Mode = Literal["online", "offline"]


def connect(run: RunDir, session: dict[str, Any]) -> Any:
    """Return the W&B run: online if wanted and possible, else offline; None if wandb cannot start."""
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
    """Return the online W&B run; None, after a message with the reason, if that is not possible."""
    reason = why_not_online()
    live = None
    if reason is None:
        live, reason = _try_start(run, session, "online")
    if live is None:
        say(f"{run.path} is not uploaded, because {reason}")
    return live


def why_not_online() -> str | None:
    """Return why the server cannot be used; None if it can. Takes ``PROBE_S`` at most, and never prompts.

    It does not check the API key: `wandb.init` refuses a wrong key at once.
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
    except (wandb.errors.Error, ValueError) as error:  # an API key or a URL of the wrong form
        return one_line(error)
    return None


def already_logged(live: Any, run: RunDir) -> dict[str, int]:
    """Return split -> last step that W&B has, from the server if online, else from the segments on disk."""
    if live.offline:
        rows = [row for segment in segments_of(run.path / "wandb", live.id) for row in history(segment)]
    else:
        rows = [dict(live.summary)]
    return logged_steps(rows)


def on_server(session: dict[str, Any]) -> tuple[dict[str, int], int]:
    """Return split -> last step that the server has of this run, and the number of its history rows.

    Raises:
        wandb.errors.Error: the server did not answer; it may or may not have rows.
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
    """Check that a server answers; wandb itself would wait for minutes. The certificate is left to wandb and its settings."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):  # urlopen would also read a file
        raise ValueError(f"{url} is not an address of a W&B server")
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=PROBE_S, context=trusting):  # noqa: S310 - the scheme is checked above
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise


def _try_start(run: RunDir, session: dict[str, Any], mode: Mode) -> tuple[Any, str | None]:
    try:
        live = _start(run, session, mode)
    except Exception as error:  # noqa: BLE001 - wandb raises many types, and none may stop the training
        wandb.teardown()  # else wandb takes the id as in use
        return None, f"{mode} mode failed: {one_line(error)}"
    write_json(session_path(run), session | {"entity": live.entity or session["entity"], "url": live.url})
    return live, None


def _start(run: RunDir, session: dict[str, Any], mode: Mode) -> Any:
    settings = wandb.Settings(
        init_timeout=INIT_S,
        console="off",  # do not upload the trainer's output
        silent=True,
        disable_git=True,  # wandb would record the commit of the working directory; the config has that of the code
        save_code=False,
        x_save_requirements=False,
        x_stats_pid=session["trainer_pid"],
    )
    names = {key: session[key] for key in ("id", "project", "entity", "name", "group", "job_type", "tags", "notes")}
    # with "allow", segments of the same id join into one run, online and in `wandb sync`
    live = wandb.init(
        mode=mode, dir=str(run.path), resume="allow", config=session["config"], settings=settings, **names
    )
    live.define_metric(STEP)
    live.define_metric("*", step_metric=STEP)  # W&B's own step cannot go back, so our step is a value like any other
    return live
