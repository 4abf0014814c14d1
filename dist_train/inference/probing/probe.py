"""The command ``python -m dist_train probe``: compute the features of each model once, score simple methods on them, rank."""

import importlib.util
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dist_train.config.schema import Config
from dist_train.data.decode_rules import decide_rules
from dist_train.data.formats.walk import look_at_root
from dist_train.data.index import DataIndex
from dist_train.data.stored.reuse import read_index
from dist_train.distributed.group import Dist, joined
from dist_train.errors import EXIT_DONE, EXIT_USER, ConfigError
from dist_train.inference.probing.candidates import Candidate
from dist_train.inference.probing.features import features
from dist_train.inference.probing.fits import Features, Problem
from dist_train.inference.probing.judge import METHODS, judged
from dist_train.inference.probing.table import Found, Speed, document, ranked, table
from dist_train.learning.algorithms import set_algorithms
from dist_train.model.network import Network
from dist_train.model.pretrained import obtain, published
from dist_train.run.folder import RunDir
from dist_train.system.files import json_text
from dist_train.system.machine.clock import awake_s
from dist_train.system.program import program
from dist_train.system.streams import own_stream
from dist_train.system.terminal import check_output, log_to_console, report, written_whole
from dist_train.training.report.flops import forward_flops
from dist_train.training.setup import build_network

log = logging.getLogger(__name__)


def probe(cfg: Config, candidates: Sequence[Candidate], config: str, json_file: Path | None) -> int:
    """Compare the models on the images of ``cfg``; rank 0 prints the table. Every rank must call it.

    A model that cannot be built, or whose weights are not on this machine, is named and left out.

    Args:
        config: the option that gives the config on a command line.
        json_file: written again after each model, so that no figure is lost if a later model ends the command; a stream once.

    Returns:
        The exit code: not 0 if a model was left out.

    Raises:
        ConfigError, DataError: the config or the data is wrong, or no model can be compared.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise ConfigError("probe needs scikit-learn: pip install scikit-learn, or the extra `probe`")
    streamed = own_stream(json_file) is not None
    if json_file:
        check_output("--json", json_file)
    look_at_root(cfg.data)
    with joined(cfg.distributed.automatic()) as group:
        log_to_console(group.rank)
        index = _index(cfg, group)
        rows: list[Found] = []
        left_out: list[str] = []
        for candidate in candidates:
            try:
                found = _of_one(candidate, index, group, config)
            except ConfigError as error:  # the same one on all ranks
                left_out.append(f"{candidate.name} is left out: {error}")
                continue
            rows = ranked([*rows, found], cfg.eval.metric)
            if group.is_main and json_file and not streamed:
                _write(json_file, rows, index, cfg)
        if not rows:
            raise ConfigError("\n".join(left_out))
        if group.is_main:
            print("\n".join(table(rows, index, cfg)))
            if json_file and streamed:
                _write(json_file, rows, index, cfg)
        for line in left_out:
            report(ConfigError(line))
    return EXIT_USER if left_out else EXIT_DONE


def _write(json_file: Path, rows: list[Found], index: DataIndex, cfg: Config) -> None:
    with written_whole("--json", json_file) as file:
        file.write(f"{json_text(document(rows, index, cfg), indent=2)}\n".encode())


def _index(cfg: Config, group: Dist) -> DataIndex:
    index = read_index(cfg.data, group)
    rules = group.from_main(lambda: decide_rules(cfg.data, index, RunDir.of(cfg.run), resumed=False))
    if group.is_main:
        for note in index.notes:
            log.warning("%s", note)
        if index.train.columns:
            log.warning("weights and sampling of images have no effect here: each training image counts once")
    return index.with_rules(rules)


def _of_one(candidate: Candidate, index: DataIndex, group: Dist, config: str) -> Found:
    """Compute the features of one model and judge them. Every rank must call it.

    Raises:
        ConfigError: this model cannot be compared.
        DataError: images cannot be read.
    """
    cfg = candidate.cfg
    group.from_main(lambda: _look_for_weights(candidate, config))
    set_algorithms(cfg, group.device)
    began = awake_s()
    network = build_network(cfg, index, group, load=True)
    parts = [features(cfg, network, index, group, split) for split in (index.train, index.val)]
    seconds = awake_s() - began
    return group.from_main(partial(_judge, candidate, index, network, parts, seconds))


def _look_for_weights(candidate: Candidate, config: str) -> None:
    """Find the published weights in the cache, or download them.

    Raises:
        ConfigError: they are not there; with the command that downloads them.
    """
    model = candidate.cfg.model
    if model.weights is not None or not model.pretrained:
        return
    try:
        obtain(model)
    except ConfigError as error:
        published(model)  # raises where there are none to download
        raise ConfigError(
            f"{str(error).split('. ')[0]}; `{program('fetch')} {config} {candidate.overrides}` downloads them where there is a "
            f"network, and {candidate.name}=FILE takes a file"
        ) from None


def _judge(
    candidate: Candidate, index: DataIndex, network: Network, parts: list[Features | None], seconds: float
) -> Found:
    """Judge the features on rank 0."""
    cfg, (train, val) = candidate.cfg, parts
    assert train is not None
    assert val is not None
    skipped = len(index.train) + len(index.val) - len(train.labels) - len(val.labels)
    if skipped:
        log.warning("%d images cannot be read and are skipped", skipped)
    count, width = len(train.labels) + len(val.labels), train.values.shape[1]
    size = (train.values.nbytes + val.values.nbytes) / 2**20
    log.info("%s: %d features of %d images, %.0f MiB, in %.0f s", candidate.name, width, count, size, seconds)
    began, problem = awake_s(), Problem(index.task, index.outputs)
    verdicts = {name: judged(name, problem, train, val, cfg.eval.metric, cfg.run.seed) for name in METHODS}
    cost = forward_flops(network.module, network.image_size, network.channels) / 1e9
    parameters = sum(parameter.numel() for parameter in network.module.parameters())
    speed = Speed(count / seconds, seconds, awake_s() - began)
    return Found(candidate.short, candidate.weights, parameters, cost, width, network.image_size, verdicts, speed)
