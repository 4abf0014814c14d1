"""The run in optimizer steps.

The code that follows the plan counts optimizer steps, never epochs; and what follows from the step (learning rate, data
position, every random number) is computed, never stored.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plan:
    """The run in optimizer steps. Intervals are in steps; ``micro_batch`` is in images per forward pass and rank.

    Attributes:
        warmup_steps: of the config; a shorter run or part of the schedule is all warm-up.
        cooldown_steps: at the end of the run, and of each part of the schedule, at the lowest learning rate.
        repeats: how often each image of an epoch is seen in it.
        mix_off_step: the first step without Mixup and CutMix; None if there is none.
        unfreeze_steps: the steps before which frozen layers begin to train, one for each epoch of ``model.unfreeze``.
        pause_step: the step before the last one at which the run stops, to go on later; None if there is none.
        schedule_starts: the steps at which the schedule begins: 0, and where ``schedule.on_extend: restart`` began it again.
    """

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
    unfreeze_steps: tuple[int, ...] = ()
    repeats: int = 1
    mix_off_step: int | None = None
    schedule_starts: tuple[int, ...] = (0,)
    cooldown_steps: int = 0
    pause_step: int | None = None

    def due(self, step: int, every: int) -> bool:
        """Return whether an action with the interval ``every`` is due after ``step`` steps. Always true at the last step."""
        return step == self.total_steps or (step > 0 and step % every == 0)

    def next_event(self, step: int) -> int:
        """Return the first step after ``step`` with more to do than to train: a row, an evaluation, a save, a pause, ..."""
        intervals = self.log_every_steps, self.eval_every_steps, self.save_every_steps
        marks = *self.unfreeze_steps, self.pause_step, self.total_steps
        coming = [(step // every + 1) * every for every in intervals]
        return min([*coming, *(mark for mark in marks if mark is not None and mark > step)])

    def mixes(self, step: int) -> bool:
        """Return whether Mixup and CutMix, if the config has them, mix the images of ``step``."""
        return self.mix_off_step is None or step < self.mix_off_step

    def pauses(self, step: int) -> bool:
        """Return whether the run stops after ``step`` steps, to go on later."""
        return self.pause_step is not None and self.pause_step <= step < self.total_steps

    def schedule_part(self, step: int) -> range:
        """Return the steps over which the schedule runs once, and of which ``step`` is one."""
        ends = (*self.schedule_starts[1:], self.total_steps)
        parts = [range(start, end) for start, end in zip(self.schedule_starts, ends, strict=True)]
        return next((part for part in parts if step in part), parts[-1])

    def epoch(self, step: int) -> float:
        """Return the number of epochs, with a fraction, after ``step`` steps."""
        return step / self.steps_per_epoch

    def with_micro_batch(self, images: int) -> "Plan":
        """Return the plan with another micro-batch, which must divide the images of a rank."""
        return replace(self, micro_batch=images, accumulate=self.global_batch // (self.world_size * images))

    def describe(self) -> str:
        """Return the plan in three lines of text, for ``--check`` and the start of the log."""
        again = "".join(f"; the schedule starts again at step {step}" for step in self.schedule_starts[1:])
        cooldown = f", cooldown {self.cooldown_steps} steps" if self.cooldown_steps else ""
        seen = self.steps_per_epoch * self.global_batch
        left = f"{self.train_images - seen} of {self.train_images} images left out of each epoch"
        if self.repeats > 1:
            distinct = -(-seen // self.repeats)
            left = f"each epoch has {distinct} of {self.train_images} images, {self.repeats} times each (`augment.repeats`)"
        pause = f"; pause at step {self.pause_step}" if self.pause_step else ""
        plural = "" if self.epoch(self.total_steps) == 1 else "s"
        return (
            f"{self.total_steps} steps = {self.epoch(self.total_steps):g} epoch{plural} of {self.steps_per_epoch} steps; "
            f"warm-up {min(self.warmup_steps, self.total_steps)} steps{cooldown}{again}{pause}\n"
            f"global batch {self.global_batch} = micro-batch {self.micro_batch} x {self.world_size} rank(s) "
            f"x {self.accumulate} accumulated; {left}\n"
            f"log every {self.log_every_steps}, evaluate every {self.eval_every_steps}, "
            f"save every {self.save_every_steps} steps"
        )
