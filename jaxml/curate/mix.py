"""Mixtures of domains: importance resampling, robust optimisation, mixing laws, baselines."""

from jaxml.curate.doremi import (
    DoremiConfig,
    DoremiResult,
    doremi,
    doremi_update,
    temperature,
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
from jaxml.curate.training import epochs, train_in_order, train_on_mixture

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
    "epochs",
    "fit_mixing_law",
    "gumbel_top_k",
    "minimise_mixture",
    "power_law",
    "resample",
    "temperature",
    "train_in_order",
    "train_on_mixture",
]
