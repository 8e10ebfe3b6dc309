"""Networks that take references, all under one contract.

base: the contract ── default, srntt, baselines: the architectures ── zoo: by name, with weights
"""

from refsr.models.base import Reference, RefSRModel
from refsr.models.baselines import SISR, Bicubic, Flow
from refsr.models.default import DefaultConfig, DefaultModel
from refsr.models.srntt import SRNTT, SRNTTConfig
from refsr.models.zoo import ARCHITECTURES, WEIGHTS, Architecture, Weights, load_model, packaged_model

__all__ = [
    "ARCHITECTURES",
    "SISR",
    "SRNTT",
    "WEIGHTS",
    "Architecture",
    "Bicubic",
    "DefaultConfig",
    "DefaultModel",
    "Flow",
    "RefSRModel",
    "Reference",
    "SRNTTConfig",
    "Weights",
    "load_model",
    "packaged_model",
]
