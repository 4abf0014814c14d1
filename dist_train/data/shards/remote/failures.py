"""Errors of the libraries that read remote archives: which of them another attempt may mend, and what to say of the others."""

import errno
from collections.abc import Iterator

AGAIN = (408, 425, 429)
"""Statuses of HTTP below 500 after which another attempt may succeed (RFC 9110, 8470, 6585)."""

OF_THE_REQUEST = (errno.EINVAL, errno.EPERM, errno.ENAMETOOLONG)
"""Error numbers that s3fs gives to answers that call the request wrong."""

OF_PYTHON = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError)
"""Errors that a library raises for a wrong address or setting. Subclasses are not meant: a truncated answer may raise them."""

OF_A_CONNECTION = {
    "HTTPClientError", "ConnectionError", "IncompleteReadError", "CredentialRetrievalError", "MetadataRetrievalError",
}  # fmt: skip
"""Errors of botocore after which another attempt may succeed. Its other errors are of a setting, such as missing credentials."""

CUT_OFF = "ClientPayloadError"
"""aiohttp's error of a connection that ended in the middle of an answer. Its cause has status 400, as if the request were wrong."""

OF_AN_ADDRESS = {"HFValidationError", "HfUriError", "OfflineModeIsEnabled"}
"""Errors of huggingface_hub about a wrong address, or about HF_HUB_OFFLINE."""

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; FSSPEC_S3_ANON=true reads a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS; FSSPEC_GS_TOKEN=anon reads a public bucket",
    "hf": "HF_TOKEN",
}
"""Where the libraries look for credentials, by protocol."""


def may_heal(error: Exception) -> bool:
    """Return whether another attempt may succeed: if the network or the server failed, not if the request or a setting is wrong.

    The first of an error and its causes for which ``_tells`` knows an answer decides.
    """
    return next((heals for cause in _causes(error) if (heals := _tells(cause)) is not None), True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _tells(error: BaseException) -> bool | None:
    """Return whether another attempt may succeed after this error; None if the error does not show it."""
    if isinstance(error, FileNotFoundError | PermissionError | ImportError) or type(error) in OF_PYTHON:
        return False
    if isinstance(error, OSError) and error.errno in OF_THE_REQUEST:
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    if CUT_OFF in names:
        return True
    if (status := _status(error)) is not None:
        return status >= 500 or status in AGAIN
    if "BotoCoreError" in names:
        return bool(names & OF_A_CONNECTION)
    if names & OF_AN_ADDRESS:
        return False
    heals: bool | None = getattr(error, "retryable", None)  # of google.auth
    return heals


def _status(error: BaseException) -> int | None:
    """Return the HTTP status in an error of botocore, gcsfs, aiohttp or huggingface_hub; None if it has none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:
        status = getattr(response, "status_code", None)
    else:
        status = getattr(error, "status", getattr(error, "code", None))
    return status if isinstance(status, int) and status >= 400 else None


def refusal(path: str, error: Exception) -> str:
    """Return what to tell the user about an error that no other attempt can mend."""
    if isinstance(error, FileNotFoundError):
        return f"cannot read {path}: {_missing(path, error)}"
    begin = f"cannot read {path}: {text_of(error)}"
    if isinstance(error, ImportError) or str(error).startswith("Protocol not known"):  # fsspec's words
        return (
            f"{begin}; pip install 'dist_train[remote]' reads s3:// and gs://, and fsspec names the package for others"
        )
    kinds = {type(cause).__name__ for cause in _causes(error)}
    denied = isinstance(error, PermissionError) or any(_status(cause) in (401, 403) for cause in _causes(error))
    denied = denied or (getattr(error, "errno", None) in OF_THE_REQUEST and "token" in text_of(error).lower())
    if denied or any("Credentials" in kind or kind == "ProfileNotFound" for kind in kinds):
        where = CREDENTIALS.get(path.partition("://")[0], "")
        return f"{begin}; check the credentials in this process's environment{where and f' ({where})'}"
    return f"{begin}; correct the address, or the settings of the library that reads it"


def _missing(path: str, error: Exception) -> str:
    """Return a text that says what does not exist: the bucket or repository, its revision, or a file or folder in it."""
    bucket, _, inside = path.partition("://")[2].strip("/").partition("/")
    kinds = {type(cause).__name__ for cause in _causes(error)}
    if "RepositoryNotFoundError" in kinds:
        return f"the repository does not exist, or is private: then set {CREDENTIALS['hf']} to a token that may read it"
    if "RevisionNotFoundError" in kinds:
        return "the repository has no such revision; correct what follows the @"
    unknown = "NoSuchBucket" in kinds or not inside
    return f"the bucket {bucket} does not exist" if unknown else "file or folder not found"


def text_of(error: Exception) -> str:
    """Return the first line of an error; and the second one where the first says nothing: "Parameter validation failed:"."""
    if isinstance(error, TimeoutError) and not str(error):
        return "the server did not answer in time"
    first, more, *_ = [*filter(None, str(error).splitlines()), "", ""]
    empty = first.endswith(":") or "Client Error." in first
    return f"{first} {more}" if empty and more else first or type(error).__name__
