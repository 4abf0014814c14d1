"""Measure ``keep_freed_memory``: training steps of a small CNN on the CPU with and without it.

    python -m benchmarks.cpu_malloc

Each side runs in separate processes, in turn. Prints the median images/s of each side and their ratio.
"""

import statistics
import subprocess
import sys

STEPS = """
import sys, time
import timm, torch
from dist_train.system.machine.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
torch.set_num_threads(1)
model = timm.create_model("tf_efficientnet_lite0").to(memory_format=torch.channels_last)
images = torch.randn(32, 3, 128, 128).to(memory_format=torch.channels_last)
for step in range(7):
    if step == 2:
        began = time.perf_counter()
    model(images).sum().backward()
    model.zero_grad()
print(5 * 32 / (time.perf_counter() - began))
"""


def images_per_s(side: str) -> float:
    """Return the training images per second of one process, after two steps of warm-up."""
    done = subprocess.run([sys.executable, "-c", STEPS, side], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    rates: dict[str, list[float]] = {"returned": [], "kept": []}
    for _ in range(5):
        for side, values in rates.items():
            values.append(images_per_s(side))
    medians = {side: statistics.median(values) for side, values in rates.items()}
    for side, value in medians.items():
        print(
            f"freed memory {side:<9} {value:6.1f} images/s   (of {', '.join(f'{v:.1f}' for v in sorted(rates[side]))})"
        )
    print(f"ratio {medians['kept'] / medians['returned']:.2f}")


if __name__ == "__main__":
    main()
