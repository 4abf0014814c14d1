"""Archives on the Hugging Face Hub (``hf://``), by huggingface_hub.

The Hub allows some thousand requests in five minutes. So a process asks once which commit a branch is at, and reads that one: no image
costs a question whether its archive has changed, and a change meanwhile does not reach the process.
"""

from typing import Any

SILENCE_S = 15.0
"""The Hub has failed when it sends nothing for so long. huggingface_hub lists folders without a limit, and would wait forever."""

FOLDERS = {"dataset": "datasets/", "space": "spaces/"}
"""Beginnings of an address, by the kind of repository; of a model it has none."""

_commits: dict[tuple[str, str, str], str] = {}


def at_commit(system: Any, path: str, now: bool) -> str:
    """Return the address of a file or folder in the commit that this process reads; the same address for a bucket, which has no commits.

    Args:
        now: ask which commit the branch is at, and read that one from now on.
    """
    from huggingface_hub import HfApi

    limit_waits()
    if now:
        system.invalidate_cache()
    place = system.resolve_path(path)
    if not hasattr(place, "repo_id"):
        return path
    repo = place.repo_type, place.repo_id, place.revision
    if now or repo not in _commits:
        api = HfApi(endpoint=system.endpoint, token=system.token)
        about = api.repo_info(place.repo_id, repo_type=place.repo_type, revision=place.revision, timeout=SILENCE_S)
        assert about.sha is not None
        _commits[repo] = about.sha
    return f"{FOLDERS.get(place.repo_type, '')}{place.repo_id}@{_commits[repo]}/{place.path_in_repo}".rstrip("/")


def limit_waits() -> None:
    """Give each request of the HTTP client that huggingface_hub has now a time limit."""
    from huggingface_hub import get_session

    hooks = getattr(get_session(), "event_hooks", None)  # before its version 1, the client is of another library
    if hooks is not None and _limit not in hooks["request"]:
        hooks["request"].append(_limit)


def _limit(request: Any) -> None:
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {key: limits.get(key) or SILENCE_S for key in ("connect", "read", "write", "pool")}
