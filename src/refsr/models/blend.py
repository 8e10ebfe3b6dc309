"""Weights for clean photographs and for real ones, faithful and crisp, and every mixture of them.

    clean, faithful ── share of real ── real, faithful
           │                                  │
        texture                            texture
           │                                  │
    clean, crisp ───── share of real ── real, crisp        each place in between: weights of one network

All were trained on from the same weights; means of such weights lie between them in what they do, too.
Source: Wang et al., "Deep Network Interpolation for Continuous Imagery Effect Transition", CVPR 2019.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Final

import torch

from refsr.device import Device
from refsr.models.base import RefSRModel
from refsr.models.zoo import load_model

AUTO: Final = "auto"
"""Name of the blend of the shipped weights, beside the names of `WEIGHTS`."""

Corner = tuple[int, int]
"""Share of real and texture, each 0 or 1."""

_CORNERS: Final[dict[Corner, str]] = {
    (0, 0): "default",
    (1, 0): "default-real",
    (0, 1): "default-texture",
    (1, 1): "default-texture-real",
}


class Blend:
    """A model whose weights suit the photo and the wish.

    Attributes:
        clean: The model for clean photographs, the most faithful one.
    """

    def __init__(self, clean: RefSRModel, load: Mapping[Corner, Callable[[], RefSRModel]] | None = None) -> None:
        """Blend models of one architecture and config.

        Args:
            clean: The model for clean photographs.
            load: Loads each of the three others, when it is first wanted; None where there are only one model's
                weights, which then serve all photographs.
        """
        self.clean = clean
        self._load = load or {}
        self._corners: dict[Corner, RefSRModel] = {(0, 0): clean}
        self._mixed: tuple[float, float, RefSRModel] = (0.0, 0.0, clean)
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
        return not self._load

    def at(self, real: int | float, texture: int | float = 0) -> RefSRModel:
        """The model with these shares of the weights; the mixture asked for last is kept.

        Args:
            real: Share of the weights for real photographs, 0..1.
            texture: Share of the crisp weights, 0..1.

        Raises:
            WeightsError: The weights are damaged.
        """
        shares = {
            corner: (real if corner[0] else 1 - real) * (texture if corner[1] else 1 - texture) for corner in _CORNERS
        }
        wanted = [corner for corner, share in shares.items() if share]
        if self.is_single or wanted == [(0, 0)]:
            return self.clean
        with self._mixing:
            for corner in wanted:
                if corner not in self._corners:
                    self._corners[corner] = self._load[corner]()
            if len(wanted) == 1:
                return self._corners[wanted[0]]
            if self._mixed[:2] != (real, texture):
                self._mixed = real, texture, _mean([(self._corners[corner], shares[corner]) for corner in wanted])
            return self._mixed[2]

    def digest(self) -> str:
        """Digest of all weights."""
        corners = [(0, 0)] if self.is_single else list(_CORNERS)
        return "+".join(dict.fromkeys(self.at(*corner).digest() for corner in corners))


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
    first, *others = _CORNERS
    load = {corner: partial(load_model, _CORNERS[corner], device=device) for corner in others}
    return Blend(load_model(_CORNERS[first], device=device), load)


def _mean(models: Sequence[tuple[RefSRModel, float]]) -> RefSRModel:
    """A model with the weighted mean of several models' weights; the weights add up to 1."""
    mixed = deepcopy(models[0][0])
    others = [(model.state_dict(), share) for model, share in models]
    with torch.no_grad():
        for name, value in mixed.state_dict().items():
            value.copy_(sum(state[name] * share for state, share in others))
    return mixed
