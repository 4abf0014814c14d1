"""The run in optimizer steps.

Below the plan nobody knows epochs, only optimizer steps; and what can be computed from the step (learning rate, data
position, every random number) is computed, never stored.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The run in optimizer steps. Cadences in steps; ``micro_batch`` in images per forward pass per rank."""

    world_size: int
    train_images: int
    global_batch: int
    micro_batch: int
    accumulate: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    eval_every_steps: int
    save_every_steps: int
    log_every_steps: int
    unfreeze_step: int | None = None

    def due(self, step: int, every: int) -> bool:
        """Return whether something with the cadence ``every`` happens after ``step`` steps. Always true at the end."""
        return step == self.total_steps or (step > 0 and step % every == 0)

    def epoch(self, step: int) -> float:
        """Return the epochs that are done after ``step`` steps."""
        return step / self.steps_per_epoch

    def describe(self) -> str:
        """Return the arithmetic in a few lines, for ``--check`` and the head of the log."""
        dropped = self.train_images - self.steps_per_epoch * self.global_batch
        return (
            f"{self.total_steps} steps = {self.epoch(self.total_steps):g} epochs of {self.steps_per_epoch} steps; "
            f"warm-up {self.warmup_steps} steps\n"
            f"global batch {self.global_batch} = micro-batch {self.micro_batch} x {self.world_size} rank(s) "
            f"x {self.accumulate} accumulated; {dropped} of {self.train_images} images left out of each epoch\n"
            f"log every {self.log_every_steps}, evaluate every {self.eval_every_steps}, "
            f"save every {self.save_every_steps} steps"
        )
