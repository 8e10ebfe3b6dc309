"""A training run in one tree of values; a recipe (YAML) sets some of them, flags of the command line go before it.

`RunOptions` is what no recipe says: where, how long, on what.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from refsr.data.plan import PairConfig
from refsr.degrade import DegradeConfig
from refsr.device import Device
from refsr.errors import UsageError
from refsr.models.zoo import TRAINABLE, NetworkSettings


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each loss counts; zero leaves it out. See `refsr.training.losses`.

    Attributes:
        l1: Reconstruction.
        charbonnier: Its smooth relative.
        frequency: Difference of Fourier transforms.
        perceptual: Difference of VGG19's deep maps.
        texture: Difference of Gram matrices, against the swapped maps.
        adversarial: What the critic says.
        back_projection: Shrunk result against the LR image.
        contrast: InfoNCE of the descriptors, for models that have them.
        alignment: Distance of the field from the true one, for the model default.
    """

    l1: float = 1.0
    charbonnier: float = 0.0
    frequency: float = 0.0
    perceptual: float = 0.0
    texture: float = 0.0
    adversarial: float = 0.0
    back_projection: float = 0.0
    contrast: float = 0.0
    alignment: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """A part of a run with losses and a schedule of its own; no steps, no stage.

    Attributes:
        steps: Its length.
        batch: Pairs a step and process.
        crop_px: Sides of the square crops, in turn over equal parts of the stage; multiples of 4. With a critic one
            side alone, a multiple of 32.
        references: False for single-image super-resolution.
        frozen: Parts of the network that stay as they are, such as "trunk".
        learning_rate: After the warm-up and before the decay.
        warmup_steps: Steps over which the rate rises from zero.
        decay_share: Last share of the stage over which it falls to zero along a cosine; 0 keeps it, as the paper does.
        losses: What each counts.
        truth: Train each step a second time with the truth as its own, perfectly matched reference.
        critic_steps: The critic's steps for each of the network's.
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
            raise UsageError(f"a stage needs steps and pairs: not {self.steps} steps of {self.batch}")
        multiple = 32 if self.losses.adversarial else 4
        if any(side < 16 or side % multiple for side in self.crop_px) or not self.crop_px:
            raise UsageError(f"crops of {_listed(self.crop_px)} pixels: give multiples of {multiple}, 16 or more")
        if self.losses.adversarial and len(self.crop_px) > 1:
            raise UsageError(f"crops of {_listed(self.crop_px)} pixels: a critic needs one size")
        if not 0 <= self.decay_share <= 1:
            raise UsageError(f"a decay over {self.decay_share} of a stage: give a share between 0 and 1")

    def crop_at(self, step: int) -> int:
        """Side of the crops at a step of the stage, counted from 0."""
        return self.crop_px[step * len(self.crop_px) // self.steps]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(NetworkSettings):  # type: ignore[misc]
    """A run; beside what is here, the network's settings of `refsr.models.zoo`.

    Attributes:
        sisr: First stage, by the paper the SISR trunk alone.
        rec: Second stage: references, reconstruction only.
        full: Third stage: all losses.
        pairs: How pairs are made of single photographs.
        degrade: How LR images are made; by default they are reduced and nothing else.
        real: Share of pairs that are real views or crops of them, where photographs are given too.
        optimiser: adam, or adamw with a weight decay of 1e-4.
        beta1: Of the optimiser.
        clip_norm: Largest norm of the gradients; 0 leaves them.
        ema_decay: Of the weights' running average, which is what ships; 0 ships the weights themselves.
        contrast_queries: Cells of each pair that InfoNCE asks for.
        contrast_temperature: InfoNCE's temperature.
        critic_width: Channels of the critic's first layers.
        checkpoint_minutes: Time between checkpoints.
        validate_steps: Steps between validations, if there is a folder for them.
        validate_samples: Samples of it that are measured, spread evenly; 0 for all.
        log_steps: Steps between lines of the log.
        seed: Start of all random numbers.
        precision: Numbers of the network; auto takes bf16 where the device has instructions for it. Fabric's names are
            understood too.
        compiled: Compile the network's chains of layers, for accelerators.
        workers: Processes that draw plans of pairs, for each process that trains; 0 draws them between the steps.
        cache_mib: Decoded photographs kept on the device by each process that trains.
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
            raise UsageError("the recipe has no steps: give at least one of its stages some, such as --rec.steps 1000")

    @property
    def network(self) -> Any:
        """Sizes of the model."""
        return getattr(self, self.model)

    @property
    def stages(self) -> tuple[tuple[str, StageConfig], ...]:
        """Those that have steps, in order."""
        named = (("sisr", self.sisr), ("rec", self.rec), ("full", self.full))
        return tuple((name, stage) for name, stage in named if stage.steps)

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in (self.sisr, self.rec, self.full))


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What of a run is not part of its recipe.

    Attributes:
        data: Folders of photographs, or of pairs of `refsr pairs`; again for more.
        output: Folder of the run; a checkpoint in it is gone on from.
        vgg19: File of VGG19 weights, for models and losses that need them.
        init: Weights to begin with; a checkpoint goes before them.
        validate: Data set to validate on, if any: a folder or a manifest.
        held_out: Folders of pictures that must not be trained on, beside those of `validate`; again for more.
        time_limit_s: End of this stretch, in seconds from its begin; 0 for none.
        tensorboard: Write TensorBoard's files as well.
        device: Device that trains; auto takes CUDA, then MPS, then the CPU.
        processes: Processes of this machine, one for each GPU; auto is as many as there are, and one on the CPU.
        nodes: Machines.
    """

    data: tuple[Path, ...]
    output: Path
    vgg19: Path | None = None
    init: Path | None = None
    validate: Path | None = None
    held_out: tuple[Path, ...] = ()
    time_limit_s: float = 0.0
    tensorboard: bool = False
    device: Device = "auto"
    processes: Literal["auto"] | int = "auto"
    nodes: int = 1


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(str(number) for number in numbers)
