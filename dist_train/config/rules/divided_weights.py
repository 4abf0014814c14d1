"""Keys that do not work with strategies that divide weights among ranks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dist_train.config.choices import OPTIMIZERS, STRATEGIES

if TYPE_CHECKING:
    from dist_train.config.schema import Config


def needs_whole_weights(cfg: "Config") -> Iterator[str]:
    """Yield an error for each key that needs whole weights or gradients, if the strategy divides them among ranks."""
    name = cfg.distributed.strategy.name
    if STRATEGIES.find(name).shards:
        for key, reason, fix in _reasons(cfg):
            yield f"{key} does not work with `distributed.strategy` ({name}): {reason}; {fix}"


def _reasons(cfg: "Config") -> Iterator[tuple[str, str, str]]:
    """Yield each such key with its value, the reason, and the fix."""
    model, train, loss, ranks = cfg.model, cfg.train, cfg.loss, cfg.distributed
    if train.clip is not None and train.clip.mode == "agc":
        yield "`train.clip.mode` (agc)", "it compares norms of whole vectors, such as biases", "use norm or value"
    if OPTIMIZERS.find(cfg.optim.name) is OPTIMIZERS.own:
        known = ", ".join(OPTIMIZERS.rows)
        yield f"`optim.name` ({cfg.optim.name})", "it may need whole weights", f"use one of: {known}"
    if model.compiler and not model.compiler.blocks:
        why = "one graph of the whole model would hold whole weights"
        yield "`model.compile`", why, "use {blocks: true}, which compiles each block"
    if model.channels_last:
        yield "`model.channels_last` (true)", "torch divides contiguous weights only", "set it to false"
    if train.precision == "amp_fp16" and ranks.strategy.cpu_offload:
        why = (
            "with `distributed.strategy.cpu_offload`, the loss scale is on the GPU and the gradients are in host memory"
        )
        yield "`train.precision` (amp_fp16)", why, "use amp_bf16 or fp32"
    if train.precision == "fp16":
        yield "`train.precision` (fp16)", "it makes half-precision copies of whole weights", "use amp_fp16 or amp_bf16"
    if train.micro_batch == "auto":
        yield "`train.micro_batch` (auto)", "it is found by steps of one rank with whole weights", "give a number"
    if train.cached_features:
        yield "`train.cached_features` (true)", "features are computed with whole weights", "set it to false"
    if loss.objective is not None:
        why = "it may read weights outside the model's forward pass"
        yield f"`loss.objective` ({loss.objective})", why, "remove it, or use ddp"
    if ranks.gradient_dtype == "bf16":
        yield "`distributed.gradient_dtype` (bf16)", "only ddp exchanges such gradients", "use fp32"
    if ranks.unused_parameters == "allow":
        why = "ranks would wait for gradients that other ranks do not have"
        yield "`distributed.unused_parameters` (allow)", why, "freeze these parameters, and use error"
