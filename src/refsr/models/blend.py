"""Weights for clean photographs, weights for real ones, and every mixture of them.

    clean ── (1 - share) ──┐
    real ───── share ──────┴──> weights of one network

Both were trained on from the same weights; means of such weights are as good as either.
Source: Wang et al., "Deep Network Interpolation for Continuous Imagery Effect Transition", CVPR 2019.
"""

import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Final

import torch

from refsr.device import Device
from refsr.models.base import RefSRModel
from refsr.models.zoo import load_model

AUTO: Final = "auto"
"""Name of the blend of the shipped weights, beside the names of `WEIGHTS`."""

_CLEAN, _REAL = "default", "default-real"


class Blend:
    """A model whose weights suit the photo.

    Attributes:
        clean: The model for clean photographs.
    """

    def __init__(self, clean: RefSRModel, load_real: Callable[[], RefSRModel] | None = None) -> None:
        """Blend two models of one architecture and config.

        Args:
            clean: The model for clean photographs.
            load_real: Loads the one for real photographs, when it is first wanted; None where there are only one
                model's weights, which then serve all photographs.
        """
        self.clean = clean
        self._load_real = load_real
        self._mixed: tuple[float, RefSRModel] = (0.0, clean)
        self._real: RefSRModel | None = None
        self._mixing = threading.Lock()

    @classmethod
    def of(cls, model: "RefSRModel | Blend | None") -> "Blend":
        """A model as a blend: itself if it is one, the shipped one for None."""
        if model is None:
            return load_blend()
        return model if isinstance(model, Blend) else cls(model)

    @property
    def is_single(self) -> bool:
        """Whether there is nothing to mix."""
        return self._load_real is None

    def at(self, share: float) -> RefSRModel:
        """The model with this share of the weights for real photographs; the one asked for last is kept.

        Args:
            share: 0..1.

        Raises:
            WeightsError: The weights are damaged.
        """
        if self._load_real is None or share == 0:
            return self.clean
        with self._mixing:
            if self._real is None:
                self._real = self._load_real()
            if share == 1:
                return self._real
            if self._mixed[0] != share:
                self._mixed = share, _mean(self.clean, self._real, share)
            return self._mixed[1]

    def digest(self) -> str:
        """Digest of all weights."""
        digests = dict.fromkeys(model.digest() for model in (self.clean, self.at(1.0)))
        return "+".join(digests)


def load_blend(model: str | Path = AUTO, *, device: Device | torch.device = "auto", vgg19: Path | None = None) -> Blend:
    """Load the blend of the shipped weights, or one model's weights, which serve all photographs.

    Args:
        model: "auto" for the blend, else as for `load_model`.
        device: See `load_model`.
        vgg19: See `load_model`.

    Raises:
        WeightsError: See `load_model`.
        UsageError: See `load_model`.
    """
    if model != AUTO:
        return Blend(load_model(model, device=device, vgg19=vgg19))
    return Blend(load_model(_CLEAN, device=device), lambda: load_model(_REAL, device=device))


def _mean(first: RefSRModel, second: RefSRModel, share: float) -> RefSRModel:
    """A model with the weighted mean of two models' weights."""
    mixed, others = deepcopy(first), second.state_dict()
    with torch.no_grad():
        for name, value in mixed.state_dict().items():
            value.lerp_(others[name], share)
    return mixed
