"""The models to compare, as ``--models`` names them. Without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from dist_train.config.schema import Config
from dist_train.config.sections.model import ModelConfig
from dist_train.errors import ConfigError

SOURCES: tuple[str, ...] = get_args(ModelConfig.model_fields["source"].annotation)


@dataclass(frozen=True)
class Candidate:
    """A model to compare.

    Attributes:
        name: what the user calls it.
        cfg: the config of the run, with this model.
    """

    name: str
    cfg: Config

    @property
    def short(self) -> str:
        """Return the name for a table: without the folder of a file."""
        name, equals, file = self.name.partition("=")
        return f"{name}{equals}{Path(file).name}"

    @property
    def weights(self) -> str:
        """Return where its weights come from."""
        model = self.cfg.model
        return model.weights or ("published" if model.pretrained else "random")

    @property
    def overrides(self) -> str:
        """Return the overrides of a command line that select this model."""
        return f"model.source={self.cfg.model.source} model.name={self.cfg.model.name}"


def candidates(cfg: Config, models: str | None) -> list[Candidate]:
    """Return the models that ``--models`` names, in its order; the config's own model if it is None.

    Each begins as a run of ``cfg`` would: `model.pretrained` applies to all; `model.weights` and `model.options` apply to the
    config's own model only. Heads are linear, and nothing is frozen or has adapters: features do not depend on these.

    Raises:
        ConfigError: a name is empty, or a model is given twice.
    """
    words = [cfg.model.name] if models is None else [word.strip() for word in models.split(",")]
    if "" in words:
        raise ConfigError(f"--models ({models}) has an empty name; write names as in `model.name`, separated by commas")
    sections = [_model(cfg.model, word) for word in words]
    twice = [word for place, word in enumerate(words) if sections[place] in sections[:place]]
    if twice:
        raise ConfigError(f"--models names {', '.join(twice)} twice; name each model once")
    rest = {"train": cfg.train.model_copy(update={"cached_features": False})}
    return [
        Candidate(word, cfg.model_copy(update=rest | {"model": section}))
        for word, section in zip(words, sections, strict=True)
    ]


def _model(own: ModelConfig, word: str) -> ModelConfig:
    """Return the section `model` of one candidate: ``[SOURCE:]NAME[=FILE]``."""
    name, _, file = word.partition("=")
    source, colon, rest = name.partition(":")
    if colon and source in SOURCES:
        name = rest
    else:
        source = own.source
    if not name:
        raise ConfigError(f"--models ({word}) has no name; write [timm:|torchvision:]NAME[=FILE]")
    is_own = (source, name) == (own.source, own.name)
    return ModelConfig(
        source=cast(Any, source),
        name=name,
        pretrained=own.pretrained,
        weights=file or (own.weights if is_own else None),
        options=own.options if is_own else {},
        channels_last=own.channels_last,
    )
