"""The learning rate."""

import math

from refsr.training.config import StageConfig


def rate_at(stage: StageConfig, step: int, time_left: float = 1.0) -> float:
    """Learning rate at a step: linear warm-up, constant, cosine decay to zero. A continued run may prolong the stage.

    Args:
        stage: Length, rate, warm-up and decay.
        step: Step of the stage; the first is 1.
        time_left: Share of the run's time limit that is left; 1 without a limit. If the limit comes before the end of
            the stage, the rate decays over the last share of the time, so that the final weights are finished ones.

    Source of the cosine: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
    equation 5.
    """
    rate = stage.learning_rate * min(1.0, step / max(1, stage.warmup_steps))
    if stage.decay_share:
        decay_steps = max(1.0, stage.decay_share * stage.steps)
        left = min(1.0, max(0.0, (stage.steps - step + 1) / decay_steps), max(0.0, time_left / stage.decay_share))
        rate = min(rate, stage.learning_rate * (1 - math.cos(math.pi * left)) / 2)
    return rate
