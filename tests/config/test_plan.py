"""The plan: batches, intervals and refusals."""

from dataclasses import replace

from dist_train.config.plan import Plan

PLAN = Plan(
    world_size=2,
    train_images=103,
    global_batch=20,
    micro_batch=5,
    accumulate=2,
    steps_per_epoch=5,
    total_steps=12,
    warmup_steps=3,
    eval_every_steps=5,
    save_every_steps=4,
    log_every_steps=2,
)


def test_a_cadence_is_due_at_its_multiples_and_at_the_end() -> None:
    assert [step for step in range(13) if PLAN.due(step, PLAN.eval_every_steps)] == [5, 10, 12]
    assert [step for step in range(13) if PLAN.due(step, 100)] == [12]


def test_epochs_are_counted_in_parts() -> None:
    assert [PLAN.epoch(step) for step in (0, 5, 12)] == [0.0, 1.0, 2.4]


def test_the_description_holds_the_whole_arithmetic() -> None:
    text = PLAN.describe()
    assert "12 steps = 2.4 epochs of 5 steps; warm-up 3 steps" in text
    assert "global batch 20 = micro-batch 5 x 2 rank(s) x 2 accumulated; 3 of 103 images left out of each epoch" in text
    assert "log every 2, evaluate every 5, save every 4 steps" in text


def test_the_next_event_is_the_first_step_with_more_to_do_than_to_train() -> None:
    plan = replace(PLAN, total_steps=60, unfreeze_steps=(0, 11), pause_step=26, log_every_steps=4, eval_every_steps=10, save_every_steps=9)  # fmt: skip
    every = 4, 10, 9
    events = [step for step in range(1, 61) if step in (11, 26) or any(plan.due(step, interval) for interval in every)]
    for step in range(60):
        assert plan.next_event(step) == next(event for event in events if event > step)
