"""What no trainer can leave out of a start: torchrun and an empty script; torch and a process group; timm and a model.

    torchrun --nproc_per_node=2 benchmarks/startup_floor.py nothing|group|model vit_tiny_patch16_224 96

Rank 0 prints ``step 1`` at the end, as the runs do to which ``benchmarks.startup`` compares it.
"""

import os
import sys

UNTIL = ("nothing", "group", "model")


def main(until: str, model: str, size: int) -> None:
    if until != "nothing":
        import torch

        torch.distributed.init_process_group("gloo")
        torch.distributed.barrier()
    if until == "model":
        import torchvision  # noqa: F401
        from timm.models import create_model

        create_model(model, num_classes=2, img_size=size)
    if os.environ["RANK"] == "0":
        print("step 1", flush=True)
    if until != "nothing":
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
