"""Errors of botocore, gcsfs and huggingface_hub: what another attempt may mend, and what is said of the others."""

import errno
import json
import re
from types import SimpleNamespace
from typing import Any

import botocore.exceptions as boto
import pytest
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import ContentLengthError
from huggingface_hub.errors import (
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dist_train.data.shards.remote.failures import may_heal, refusal

PATH = "s3://bucket/all.tar"


class Answered(OSError):
    """An error with a status of HTTP: gcsfs has it in ``code``, botocore and huggingface_hub in ``response``."""

    def __init__(self, text: str, **told: Any) -> None:
        super().__init__(text)
        self.__dict__ |= told


def caused(error: Exception, kind: type[Exception], **told: Any) -> Exception:
    """Return an error with a cause of that kind, whose own arguments do not matter."""
    error.__cause__ = cause = kind.__new__(kind)
    cause.__dict__ |= told
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (boto.NoCredentialsError(), "Unable to locate credentials; check the credentials"),
        (boto.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "check the credentials"),
        (boto.ProfileNotFound(profile="nobody"), r"\(nobody\) could not be found; check the credentials"),
        (boto.ParamValidationError(report="bad bucket name"), "failed: bad bucket name; correct the address"),
        (boto.NoRegionError(), "You must specify a region.; correct the address, or the settings"),
        (boto.ClientError({"Error": {"Code": "403"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "Get"), "check the cred"),
        (Answered("gone", response=SimpleNamespace(status_code=410)), "gone; correct the address"),
        (Answered("Anonymous caller", code=401), "Anonymous caller; check the credentials"),
        (OSError(errno.EINVAL, "InvalidToken"), "InvalidToken; check the credentials"),
        (ValueError("Invalid endpoint: x"), "Invalid endpoint: x; correct the address"),
        (FileNotFoundError("nothing"), "file or folder not found"),
        (ImportError("Install s3fs"), r"Install s3fs; pip install 'dist_train\[remote\]' reads s3:// and gs://"),
        (HFValidationError("Repository id must be"), "Repository id must be; correct the address"),
        (OfflineModeIsEnabled("offline mode is enabled"), "offline mode is enabled; correct the address, or the settings"),
        (Answered("404 Client Error.\n\nGone for good", response=SimpleNamespace(status_code=404)), "Error. Gone for good; corr"),
        (caused(FileNotFoundError("a (repository not found)"), RepositoryNotFoundError), "does not exist, or is private: then set HF_TOKEN"),
        (caused(FileNotFoundError("a (revision not found)"), RevisionNotFoundError), "the repository has no such revision; correct what"),
    ],
)  # fmt: skip
def test_what_another_attempt_cannot_mend_names_the_rule(error: Exception, told: str) -> None:
    assert not may_heal(error)
    assert re.search(rf"^cannot read {PATH}: .*{told}", refusal(PATH, error))


@pytest.mark.parametrize(
    "error",
    [
        boto.EndpointConnectionError(endpoint_url="http://here"),
        boto.ReadTimeoutError(endpoint_url="http://here"),
        boto.CredentialRetrievalError(provider="sso", error_msg="timed out"),
        boto.ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "Get"),
        Answered("slow down", code=429),
        Answered("bad gateway", response=SimpleNamespace(status_code=502)),
        json.JSONDecodeError("cut off", "", 0),
        caused(ClientPayloadError("not completed"), ContentLengthError, code=400),
        OSError(errno.EREMOTEIO, "InternalError"),
    ],
)
def test_what_time_may_mend(error: Exception) -> None:
    assert may_heal(error)


def test_an_error_after_another_question_is_judged_by_itself() -> None:
    error = ConnectionResetError("reset")
    error.__context__ = FileNotFoundError("no such file, so list the folder")
    assert may_heal(error)
