"""``export --format timm --push ORG/NAME``: upload an exported folder to the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from dist_train.errors import ConfigError, DistTrainError

FILES = ("README.md", "config.json", "model.safetensors")
"""What is uploaded of the folder: other files there may be anybody's."""

FAILURES: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, OSError)
"""What an upload raises. The first is the error of the HTTP library, which is another one in each version of huggingface_hub."""


def check_repository(name: str) -> None:
    """Raise ConfigError if the hub has no such names of repositories. Without network."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"--push ({name}): {str(error).splitlines()[0]}") from None
    if "/" not in name:
        raise ConfigError(f"--push ({name}) names no owner: write ORGANISATION/NAME or USER/NAME")


def push(folder: Path, name: str, endpoint: str | None = None) -> None:
    """Upload the folder in one commit, and print its address. A repository that does not exist is created, private.

    Args:
        endpoint: the hub's URL; None means that of the environment (``HF_ENDPOINT``), else huggingface.co.

    Raises:
        DistTrainError: the hub cannot be reached, or refuses; the folder on this machine is complete.
    """
    api = HfApi(endpoint=endpoint)
    try:
        api.create_repo(name, private=True, exist_ok=True)
        done = api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(FILES), commit_message="Upload a model of dist_train"
        )
    except FAILURES as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DistTrainError(
            f"--push ({name}) to {api.endpoint} failed: {reason.strip()}; {folder} is complete. `hf auth login` or HF_TOKEN gives "
            "the right to write; then export again"
        ) from None
    print(f"pushed: {done.commit_url}")
