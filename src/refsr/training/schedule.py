"""The learning rate."""

from refsr.training.config import StageConfig


def rate_at(stage: StageConfig, step: int, time_left: float = 1.0) -> float:
    """Rise, hold, fall to zero in a straight line; the hold can be lengthened by a resumed run.

    Args:
        stage: Its length, rate, warm-up and decay.
        step: Of the stage, from 1.
        time_left: The share of the run's time limit that is left, 1 without a limit. Where the limit comes before the
            end of the stage, the rate falls over the last share of the time instead, so that the weights at the end are
            finished ones.
    """
    decay_steps = max(1.0, stage.decay_share * stage.steps)
    share = min(1.0, step / max(1, stage.warmup_steps))
    if stage.decay_share:
        share = min(share, (stage.steps - step + 1) / decay_steps, time_left / stage.decay_share)
    return stage.learning_rate * max(0.0, share)
