"""Config of a training run: a recipe (YAML) overrides defaults, flags of the command line override the recipe.

`RunOptions` holds what is not part of a recipe: data, folders, time, device.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from refsr.data.plan import PairConfig
from refsr.degrade import DegradeConfig
from refsr.device import Device
from refsr.errors import UsageError
from refsr.models.zoo import TRAINABLE, NetworkSettings
from refsr.wording import counted

_LEAST_CROP_PX: Final = {"ms_ssim": 88, "lpips": 64}


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the losses; zero leaves one out. See `refsr.training.losses`.

    Attributes:
        l1: Reconstruction loss.
        charbonnier: Charbonnier loss.
        frequency: L1 of Fourier transforms.
        ms_ssim: One minus SSIM, of four scales.
        grid: Mean error at each place of a cell: what keeps LPIPS from drawing a grid.
        lpips: LPIPS, by the weights of `--lpips`.
        perceptual: Squared difference of deep VGG19 features.
        texture: Squared difference of Gram matrices of the result's and the swapped features.
        adversarial: WGAN-GP.
        back_projection: L1 of the reduced result and the LR image.
        contrast: InfoNCE of the descriptors, for models that have them.
        choice: Error of the chosen place, for the model default with a `choice_width`.
        alignment: Error of the field in cells, for the model default.
    """

    l1: float = 1.0
    charbonnier: float = 0.0
    frequency: float = 0.0
    ms_ssim: float = 0.0
    grid: float = 0.0
    lpips: float = 0.0
    perceptual: float = 0.0
    texture: float = 0.0
    adversarial: float = 0.0
    back_projection: float = 0.0
    contrast: float = 0.0
    choice: float = 0.0
    alignment: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """A stage of a run, with its own losses and schedule; skipped with 0 steps.

    Attributes:
        steps: Length of the stage.
        batch: Pairs a step, in each process.
        crop_px: Sides of the square HR crops, each for an equal part of the stage; multiples of 4. With a critic a
            single side, a multiple of 32; with `ms_ssim` 88 or more, with `lpips` 64.
        references: False for single-image super-resolution.
        frozen: Parts of the network that are not trained, such as "trunk".
        learning_rate: Rate between warm-up and decay.
        warmup_steps: Steps over which the rate rises from zero.
        decay_share: Last share of the stage, over which the rate falls to zero along a cosine; 0 for no decay, as in
            the paper.
        losses: Weights of the losses.
        truth: Also train each step with the truth as its own, perfectly matched reference.
        critic_steps: Steps of the critic for each step of the network.
    """

    steps: int = 0
    batch: int = 9
    crop_px: tuple[int, ...] = (160,)
    references: bool = True
    frozen: tuple[str, ...] = ()
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    decay_share: float = 0.0
    losses: LossWeights = field(default_factory=LossWeights)
    truth: bool = False
    critic_steps: int = 2

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch < 1:
            stage = f"a stage of {counted(self.steps, 'step')} of {counted(self.batch, 'pair')}"
            raise UsageError(f"{stage}: give at least 0 steps of 1 pair")
        multiple = 32 if self.losses.adversarial else 4
        sides = ", ".join(map(str, self.crop_px))
        if any(side < 16 or side % multiple for side in self.crop_px) or not self.crop_px:
            raise UsageError(f"crops of {sides} pixels: give multiples of {multiple}, 16 or more")
        if self.losses.adversarial and len(self.crop_px) > 1:
            raise UsageError(f"crops of {sides} pixels: a critic needs one size")
        for loss, least in _LEAST_CROP_PX.items():
            if getattr(self.losses, loss) and min(self.crop_px) < least:
                raise UsageError(f"crops of {sides} pixels: the loss {loss} needs {least} or more")
        if not 0 <= self.decay_share <= 1:
            raise UsageError(f"a decay over {self.decay_share} of a stage: give a share between 0 and 1")

    def crop_at(self, step: int) -> int:
        """Side of the crops at a step of the stage, the first being 0."""
        return self.crop_px[step * len(self.crop_px) // self.steps]

    def rate_at(self, step: int, time_left: float = 1.0) -> float:
        """Learning rate at a step: linear warm-up, constant, cosine decay to zero. A continued run may prolong it.

        Args:
            step: Step of the stage; the first is 1.
            time_left: Share of the run's time limit that is left; 1 without a limit. If the limit comes before the end
                of the stage, the rate decays over the last share of the time, so that the final weights are finished.

        Source of the cosine: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
        equation 5.
        """
        rate = self.learning_rate * min(1.0, step / max(1, self.warmup_steps))
        if self.decay_share:
            decay_steps = max(1.0, self.decay_share * self.steps)
            left = min(1.0, max(0.0, (self.steps - step + 1) / decay_steps), max(0.0, time_left / self.decay_share))
            rate = min(rate, self.learning_rate * (1 - math.cos(math.pi * left)) / 2)
        return rate


@dataclass(frozen=True, kw_only=True)
class TrainConfig(NetworkSettings):  # type: ignore[misc]
    """A run; with the network's settings, `refsr.models.zoo.NetworkSettings`.

    Attributes:
        sisr: First stage; in the paper, the trunk without references.
        rec: Second stage: references, reconstruction loss.
        full: Third stage: all losses.
        pairs: Pairs made of single photographs.
        degrade: Degradation of LR images; by default bicubic reduction alone.
        real: Share of pairs from real views, where photographs are given too.
        optimiser: adam, or adamw with a weight decay of 1e-4.
        beta1: Decay of the optimiser's first moment.
        clip_norm: Maximum norm of the gradients; 0 for no clipping.
        ema_decay: Decay of the running average of the weights, which ships; 0 ships the weights themselves.
        contrast_queries: Query cells of InfoNCE in each pair.
        contrast_temperature: Temperature of InfoNCE.
        critic_width: Channels of the critic's first layers.
        checkpoint_minutes: Time between checkpoints.
        validate_steps: Steps between validations, if there is a data set for them.
        validate_samples: Samples to validate on, spread evenly; 0 for all.
        log_steps: Steps between lines of the log.
        seed: Seed of all random numbers.
        precision: Precision of the network; auto takes bf16 where the device has instructions for it. Fabric's names
            are accepted too.
        compiled: Compile the network's chains of layers, for accelerators.
        workers: Processes that draw plans of pairs, for each training process; 0 draws them between the steps.
        cache_mib: Decoded photographs that each training process keeps on its device.
    """

    sisr: StageConfig = field(default_factory=StageConfig)
    rec: StageConfig = field(default_factory=StageConfig)
    full: StageConfig = field(default_factory=StageConfig)
    pairs: PairConfig = field(default_factory=PairConfig)
    degrade: DegradeConfig = field(default_factory=DegradeConfig)
    real: float = 0.3
    optimiser: Literal["adam", "adamw"] = "adamw"
    beta1: float = 0.9
    clip_norm: float = 0.5
    ema_decay: float = 0.999
    contrast_queries: int = 256
    contrast_temperature: float = 0.07
    critic_width: int = 32
    checkpoint_minutes: float = 4.0
    validate_steps: int = 1000
    validate_samples: int = 0
    log_steps: int = 50
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    compiled: bool = False
    workers: int = 0
    cache_mib: int = 4096

    def __post_init__(self) -> None:
        if self.model not in TRAINABLE:
            raise UsageError(f"model {self.model!r} cannot be trained: use {' or '.join(TRAINABLE)}")
        for name, least in (("log_steps", 1), ("validate_steps", 1), ("validate_samples", 0), ("workers", 0),
                            ("cache_mib", 0)):  # fmt: skip
            if getattr(self, name) < least:
                raise UsageError(f"{name} {getattr(self, name)}: give {least} or more")
        if not 0 <= self.real <= 1:
            raise UsageError(f"real {self.real}: give a share between 0 and 1")
        if not self.steps:
            raise UsageError("the recipe has no steps: give a stage some, such as --rec.steps 1000")

    @property
    def network(self) -> Any:
        """Sizes of the model."""
        return getattr(self, self.model)

    @property
    def stages(self) -> tuple[tuple[str, StageConfig], ...]:
        """Stages with steps, in order."""
        named = (("sisr", self.sisr), ("rec", self.rec), ("full", self.full))
        return tuple((name, stage) for name, stage in named if stage.steps)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in (self.sisr, self.rec, self.full))


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run that are not part of its recipe.

    Attributes:
        data: Folders of photographs, packs, or training pairs of `refsr pairs`; repeat for more.
        output: Folder of the run; a checkpoint in it is continued.
        vgg19: File of VGG19 weights, for models and losses that need them.
        lpips: Weights of LPIPS, for the loss of that name; repeat for learned ones in another file.
        init: Weights to begin with, if there is no checkpoint.
        validate: Data set to validate on: a folder or a manifest.
        held_out: Folders of pictures that must not be trained on, beside those of `validate`; repeat for more.
        time_limit_s: Time limit of this stretch in seconds; 0 for none.
        tensorboard: Write TensorBoard files too.
        device: Device to train on; auto takes CUDA, then MPS, then the CPU.
        processes: Processes on this machine; auto takes one for each GPU, one on the CPU.
        nodes: Number of machines.
    """

    data: tuple[Path, ...]
    output: Path
    vgg19: Path | None = None
    lpips: tuple[Path, ...] = ()
    init: Path | None = None
    validate: Path | None = None
    held_out: tuple[Path, ...] = ()
    time_limit_s: float = 0.0
    tensorboard: bool = False
    device: Device = "auto"
    processes: Literal["auto"] | int = "auto"
    nodes: int = 1
