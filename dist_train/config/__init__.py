"""The configuration of a run: read, validated, never changed. Imports no torch."""

from dist_train.config.load import dump_config, load_config, parse_config
from dist_train.config.schema import Config

__all__ = ["Config", "dump_config", "load_config", "parse_config"]
