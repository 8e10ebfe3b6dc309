"""The learning rate."""

import math

from refsr.training.config import StageConfig


def rate_at(stage: StageConfig, step: int, time_left: float = 1.0) -> float:
    """Rise in a straight line, hold, fall to zero along a cosine; the hold can be lengthened by a resumed run.

    Args:
        stage: Its length, rate, warm-up and decay.
        step: Of the stage, from 1.
        time_left: The share of the run's time limit that is left, 1 without a limit. Where the limit comes before the
            end of the stage, the rate falls over the last share of the time instead, so that the weights at the end are
            finished ones.

    Source of the cosine: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
    equation 5.
    """
    rate = stage.learning_rate * min(1.0, step / max(1, stage.warmup_steps))
    if stage.decay_share:
        decay_steps = max(1.0, stage.decay_share * stage.steps)
        left = min(1.0, max(0.0, (stage.steps - step + 1) / decay_steps), max(0.0, time_left / stage.decay_share))
        rate = min(rate, stage.learning_rate * (1 - math.cos(math.pi * left)) / 2)
    return rate
