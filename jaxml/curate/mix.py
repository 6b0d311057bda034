"""Mixtures of domains: importance resampling, robust optimisation, mixing laws, baselines."""

from jaxml.curate.doremi import (
    DoremiConfig,
    DoremiResult,
    doremi,
    doremi_update,
    temperature,
    train_on_mixture,
)
from jaxml.curate.dsir import (
    Dsir,
    DsirConfig,
    bucket,
    dsir_fit,
    dsir_weights,
    gumbel_top_k,
    resample,
)
from jaxml.curate.mixlaw import MixingLaw, fit_mixing_law, minimise_mixture, power_law

__all__ = [
    "DoremiConfig",
    "DoremiResult",
    "Dsir",
    "DsirConfig",
    "MixingLaw",
    "bucket",
    "doremi",
    "doremi_update",
    "dsir_fit",
    "dsir_weights",
    "fit_mixing_law",
    "gumbel_top_k",
    "minimise_mixture",
    "power_law",
    "resample",
    "temperature",
    "train_on_mixture",
]
