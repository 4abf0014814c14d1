"""Models by name, with random weights: timm's, torchvision's, or the user's own."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import timm
import timm.data
import torchvision.models as tv
from torch import nn

from dist_train.config.types import Size, in_pixels
from dist_train.config.user_code import is_own, load_callable
from dist_train.errors import ConfigError
from dist_train.model.input_channels import replace_first_layer
from dist_train.model.layers import last_layer
from dist_train.model.network import Published
from dist_train.model.sources.hub import hub_model

if TYPE_CHECKING:
    from dist_train.config.sections.model import ModelConfig

DROP_PATH = ("drop_path_rate", "stochastic_depth_prob")
"""The arguments of timm and torchvision for ``model.drop_path``."""

GivenModel = nn.Module | Callable[[int], nn.Module]
"""A model passed from Python code, or a callable that takes the number of outputs and returns one."""


@dataclass(frozen=True)
class Backbone:
    """A model, and the images that it expects.

    Attributes:
        heads: the paths of its heads, auxiliary ones included.
        new_head: the head has only its library's random init: no published weights, and none of the user's code.
        image_size, mean, std, published: see ``Network``.
    """

    module: nn.Module
    heads: tuple[str, ...]
    new_head: bool
    image_size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    published: Published


def create(
    cfg: "ModelConfig",
    outputs: int,
    image_size: Size | None,
    overlay: dict[str, Any] | None,
    given: GivenModel | None = None,
    channels: int = 3,
) -> Backbone:
    """Build ``model.name``.

    Args:
        outputs: the number of outputs of the head.
        image_size: H and W of the input in pixels; None means the model's own.
        overlay: the result of ``pretrained.timm_overlay``, for published weights; None means random weights.
        given: a model, or a callable that returns one, in place of ``model.name``.
        channels: of the images; one's own model must take them.

    Raises:
        ConfigError: the model is unknown, does not support an option, or has no recognisable head.
    """
    if given is not None:
        module = given if isinstance(given, nn.Module) else given(outputs)
        backbone = _own(cfg, "the model given", module, outputs, image_size)
    elif is_own(cfg.name):
        module = _call(load_callable(cfg.name, "model.name"), cfg, num_classes=outputs)
        backbone = _own(cfg, f"`model.name` ({cfg.name})", module, outputs, image_size)
    elif cfg.source == "timm":
        backbone = _timm(cfg, outputs, image_size, overlay, channels)
    else:
        backbone = _torchvision(cfg, outputs, image_size, channels)
    if cfg.grad_checkpointing:
        _checkpoint_gradients(cfg, backbone.module)
    return backbone


def list_models(pattern: str) -> list[tuple[str, str]]:
    """Return (source, name) of every classifier whose name contains ``pattern``, or matches it if it has wildcards."""
    wanted = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    ours = [("timm", name) for name in timm.list_models(wanted) if not name.endswith("_enc")]
    return ours + [("torchvision", name) for name in tv.list_models(module=tv, include=wanted)]


def torchvision_weights(name: str) -> Any:
    """Return the published weights of a torchvision model: ``NAME`` for the default ones, ``NAME.TAG`` for others.

    Raises:
        ConfigError: the model or the tag is unknown.
    """
    name, _, tag = name.partition(".")
    if name not in tv.list_models(module=tv):
        raise _unknown(name, tv.list_models(module=tv), "torchvision")
    published = tv.get_model_weights(name)
    if tag and tag not in published.__members__:
        raise ConfigError(
            f"`model.name` ({name}.{tag}): {name} has no weights {tag}; torchvision has "
            f"{', '.join(each.name for each in published)}"
        )
    return published[tag or "DEFAULT"]


def timm_weights(name: str) -> Any:
    """Return timm's record of the published weights of a model: ``NAME`` for the default ones, ``NAME.TAG`` for others.

    Raises:
        ConfigError: the model or the tag is unknown.
    """
    if not timm.is_model(name):
        raise _unknown(name, timm.list_models(), f"timm {timm.__version__}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        stem = name.split(".")[0]
        known = ", ".join(timm.list_pretrained(f"{stem}.*")) or f"no published weights; use {stem}"
        raise ConfigError(f"`model.name` ({name}) is unknown: timm {timm.__version__} has {known}") from None


def _timm(
    cfg: "ModelConfig", outputs: int, image_size: Size | None, overlay: dict[str, Any] | None, channels: int
) -> Backbone:
    hub = hub_model(cfg.name)
    if hub is None:
        name, published = cfg.name, timm_weights(cfg.name)
        fixed = published is not None and published.fixed_input_size
    else:
        name, description = hub.described()
        fixed = bool(description.get("fixed_input_size"))
    options: dict[str, Any] = {"num_classes": outputs}
    if cfg.drop_path:
        options[DROP_PATH[0]] = cfg.drop_path
    if channels != 3:
        options["in_chans"] = channels
    if image_size is not None and fixed:
        options["img_size"] = image_size
    if overlay:
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    module = _call(timm.create_model, cfg, name, **options)
    if not hasattr(module, "get_classifier"):
        raise ConfigError(f"`model.name` ({cfg.name}) is an encoder without a classifier; choose a classifier")
    classifier = module.pretrained_cfg.get("classifier")
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier or (last_layer(module, outputs),))
    # timm loads the published head too where it has as many outputs.
    new_head = not overlay or module.pretrained_cfg["num_classes"] != outputs
    return _described(module, heads, new_head, image_size)


def _own(cfg: "ModelConfig", name: str, module: Any, outputs: int, image_size: Size | None) -> Backbone:
    if cfg.drop_path:
        raise ConfigError(
            f"`model.drop_path` ({cfg.drop_path}) has no effect on {name}, which is your own code; set model.drop_path=0"
        )
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{name} must return a torch.nn.Module, but returned {type(module).__name__}")
    return _described(module, _own_heads(module, outputs), False, image_size)


def _own_heads(module: nn.Module, outputs: int) -> tuple[str, ...]:
    """Return the paths of the layers that ``get_classifier()`` returns, or of the last layer if there is no such method."""
    if not hasattr(module, "get_classifier"):
        return (last_layer(module, outputs),)
    found = module.get_classifier()  # type: ignore[operator]
    layers = found if isinstance(found, tuple | list) else (found,)
    return tuple(path for path, part in module.named_modules() if any(part is layer for layer in layers))


def _described(module: nn.Module, heads: tuple[str, ...], new_head: bool, image_size: Size | None) -> Backbone:
    """Return the model with timm's data about its images, or with the usual values of ImageNet."""
    data = timm.data.resolve_model_data_config(module)
    own: Size = data["input_size"][-2:]
    return Backbone(
        module=module,
        heads=heads,
        new_head=new_head,
        image_size=image_size or own,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        published=_published(module, data, own, image_size),
    )


def _published(module: nn.Module, data: dict[str, Any], own: Size, image_size: Size | None) -> Published:
    """Return how the model was evaluated when it was published, by timm's data.

    Args:
        own: the size at which the model was published.
    """
    record = getattr(module, "pretrained_cfg", {})
    tested = timm.data.resolve_data_config(model=module, use_test_size=True)
    test: tuple[Size, float] | None = tested["input_size"][-2:], tested["crop_pct"]
    left_aside = ""
    if test == (own, data["crop_pct"]):
        test = None
    elif image_size not in (None, own):
        left_aside = f"`data.image_size` is not the {in_pixels(own)} with which the model was published"
    elif record.get("fixed_input_size"):
        left_aside = "this model takes images of one size only"
    return Published(
        data["crop_pct"], data["crop_mode"], data["interpolation"], None if left_aside else test, left_aside
    )


def _torchvision(cfg: "ModelConfig", outputs: int, image_size: Size | None, channels: int) -> Backbone:
    preset = torchvision_weights(cfg.name).transforms()
    size = image_size or (preset.crop_size[0], preset.crop_size[0])
    name = cfg.name.partition(".")[0]
    options: dict[str, Any] = {"weights": None, "num_classes": outputs}
    if cfg.drop_path:
        options[DROP_PATH[1]] = cfg.drop_path
    if name.startswith("vit_"):
        options["image_size"] = _square(cfg, size)
    elif name.startswith("maxvit"):
        options["input_size"] = (_square(cfg, size),) * 2
    elif name in ("googlenet", "inception_v3"):
        options |= {"init_weights": True, "aux_logits": True}
    module = _call(tv.get_model_builder(name), cfg, **options)
    if hasattr(module, "transform_input"):
        # Published weights need it. Set it always, because the weights of a trained run come from a file.
        module.transform_input = channels == 3
    if channels != 3:
        replace_first_layer(module, cfg.name, channels)
    auxiliary = {"googlenet": ("aux1.fc2", "aux2.fc2"), "inception_v3": ("AuxLogits.fc",)}.get(name, ())
    main = last_layer(module, outputs)
    return Backbone(
        module=module,
        heads=(*auxiliary, main),
        new_head=True,
        image_size=size,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        published=Published(preset.crop_size[0] / preset.resize_size[0], "center", preset.interpolation.value),
    )


def _square(cfg: "ModelConfig", size: Size) -> int:
    if size[0] != size[1]:
        raise ConfigError(
            f"`data.image_size` ({list(size)}): torchvision's {cfg.name} takes square images only; use one number, or a "
            "timm model (`model.source`)"
        )
    return size[0]


OWNED = {
    "num_classes": "the data decides it",
    "pretrained": "use `model.pretrained`",
    "weights": "use `model.weights`",
    "checkpoint_path": "use `model.weights`",
    **dict.fromkeys(("img_size", "image_size", "input_size"), "use `data.image_size`"),
    "in_chans": "use `data.channels`",
    **dict.fromkeys(DROP_PATH, "use `model.drop_path`"),
}
"""Arguments of constructors that other keys set -> what to do instead."""


def _call(build: Callable[..., Any], cfg: "ModelConfig", *args: Any, **options: Any) -> Any:
    if not is_own(cfg.name):
        for name in cfg.options.keys() & OWNED.keys():
            raise ConfigError(f"`model.options` ({name}) is not available: {OWNED[name]}")
    options |= cfg.options
    try:
        return build(*args, **options)
    except (TypeError, ValueError, AssertionError) as error:
        if cfg.drop_path and any(f"unexpected keyword argument '{option}'" in str(error) for option in DROP_PATH):
            raise ConfigError(
                f"`model.drop_path` ({cfg.drop_path:g}): {cfg.name} has no stochastic depth; set it to 0"
            ) from None
        given = ", ".join(f"{key}={value}" for key, value in options.items() if key != "pretrained_cfg_overlay")
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"`model.name` ({cfg.name}) cannot be built with {given}: {reason}") from error


def _checkpoint_gradients(cfg: "ModelConfig", module: nn.Module) -> None:
    try:
        module.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError):
        raise ConfigError(
            f"`model.grad_checkpointing` (true): {cfg.name} has no gradient checkpointing; set it to false, and lower "
            "`train.micro_batch` to save memory"
        ) from None


def _unknown(name: str, known: list[str], source: str) -> ConfigError:
    stem = name.split(".")[0].lower()
    near = [other for other in known if other.startswith(stem)][:3] or difflib.get_close_matches(stem, known, n=3)
    near = near or [other for other in known if stem[:8] in other][:3]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    if source == "torchvision" and timm.is_model(name):
        hint = "; timm has it: set `model.source` to timm"
    elif source != "torchvision" and stem in tv.list_models(module=tv):
        hint = "; torchvision has it: set `model.source` to torchvision"
    return ConfigError(f"`model.name` ({name}) is not a {source} model{hint} (`--list-models PATTERN` lists them)")
