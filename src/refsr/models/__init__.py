"""Networks that take references, all under one contract.

base: the contract ── default, srntt, baselines: the architectures ── zoo: by name, with weights ── blend: of two
"""

from refsr.models.base import Reference, RefSRModel
from refsr.models.baselines import SISR, Bicubic, Flow
from refsr.models.blend import AUTO, Blend, load_blend
from refsr.models.default import DefaultConfig, DefaultModel
from refsr.models.srntt import SRNTT, SRNTTConfig
from refsr.models.zoo import ARCHITECTURES, WEIGHTS, Architecture, Weights, load_model, packaged_model

__all__ = [
    "ARCHITECTURES",
    "AUTO",
    "SISR",
    "SRNTT",
    "WEIGHTS",
    "Architecture",
    "Bicubic",
    "Blend",
    "DefaultConfig",
    "DefaultModel",
    "Flow",
    "RefSRModel",
    "Reference",
    "SRNTTConfig",
    "Weights",
    "load_blend",
    "load_model",
    "packaged_model",
]
