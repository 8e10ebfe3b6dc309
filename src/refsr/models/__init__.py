"""Networks that take references, all under one contract.

base: the contract ── default, srntt, baselines: what keeps it ── zoo: them by name ── load: with their weights
"""

from refsr.models.base import Reference, RefSRModel
from refsr.models.baselines import SISR, Bicubic, Flow
from refsr.models.default import DefaultConfig, DefaultModel
from refsr.models.load import build_model, load_model, network_config, packaged_model, packaged_weights
from refsr.models.srntt import SRNTT, SRNTTConfig
from refsr.models.zoo import MODELS, ModelSpec

__all__ = [
    "MODELS",
    "SISR",
    "SRNTT",
    "Bicubic",
    "DefaultConfig",
    "DefaultModel",
    "Flow",
    "ModelSpec",
    "RefSRModel",
    "Reference",
    "SRNTTConfig",
    "build_model",
    "load_model",
    "network_config",
    "packaged_model",
    "packaged_weights",
]
