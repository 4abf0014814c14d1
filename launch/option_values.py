"""Read the values of the launcher's options. A wrong value is an error of the command line (argparse)."""

import re
from argparse import ArgumentTypeError

from dist_train.config.types import seconds_of


def natural(text: str) -> int:
    """Read a whole number, 0 or more."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return int(text)


def memory(text: str) -> str:
    """Read a memory size in the form of sbatch, such as ``64G``."""
    if not re.fullmatch(r"\d+[KMGT]?B?", text):
        raise ArgumentTypeError(f"{text!r} must be a memory size, such as 64G or 64000M")
    return text.removesuffix("B")


def walltime(text: str) -> str:
    """Check a duration such as ``12:00:00`` and return it unchanged."""
    try:
        seconds_of(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def pair(text: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) or "\0" in value:
        raise ArgumentTypeError(f"{key!r} must be KEY=VALUE, where KEY is the name of an environment variable")
    return key, value


def sbatch_option(text: str) -> tuple[str, str | bool]:
    """Read ``gres=gpu:8``. ``exclusive``, ``exclusive=`` and ``exclusive=true`` (in a YAML file) are options without value."""
    key, _, value = text.removeprefix("--").partition("=")
    if not re.fullmatch(r"[A-Za-z][\w-]*", key, re.ASCII):
        raise ArgumentTypeError(f"{text!r} must be KEY=VALUE, or KEY, where KEY is the name of an option of sbatch")
    return key, True if value in ("", "true") else value
