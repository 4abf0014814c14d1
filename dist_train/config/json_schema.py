"""The JSON schema of a config, from which editors complete keys and mark errors (docs/config.md)."""

from typing import Any

from dist_train.config.schema import Config


def json_schema() -> dict[str, Any]:
    """Return the schema of a config file."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head | Config.model_json_schema() | {"title": "dist_train: the config of one training run"}
