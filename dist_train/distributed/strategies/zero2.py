"""One process per device; gradients and moments are divided among the ranks, weights only between steps."""

from dist_train.distributed.strategies.fsdp import Fsdp


class Zero2(Fsdp):
    """The second stage of ZeRO (Rajbhandari et al., 2020), by FSDP2: a rank keeps all weights from forward to backward pass.

    A micro-batch exchanges as many bytes as a step of DDP: each weight once, each gradient once.
    """

    drops = False
