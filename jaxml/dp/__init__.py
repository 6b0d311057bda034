"""Convex two-layer ReLU networks under differential privacy, proved or clearly labelled.

>>> from jaxml import dp
>>> model = dp.ConvexReLUConfig(in_dim=784, num_classes=10)
>>> cfg = dp.NoisyCGDConfig(epochs=400)
>>> report = dp.hidden_state(cfg, model, num_examples=60_000)
>>> round(report.epsilon, 3), report.guarantee
(4.611, 'proved')
"""

from jaxml.dp.clip import clipped_grad
from jaxml.dp.config import PRESETS, ConvexReLUConfig, NoisyCGDConfig
from jaxml.dp.gating import accuracy, feature_norms, gates, logits, sample_gates
from jaxml.dp.gdp import (
    contraction_factor,
    gdp_delta,
    gdp_epsilon,
    noisy_cgd_mu,
    noisy_cgd_projected_mu,
    noisy_gd_mu,
)
from jaxml.dp.grid import train_grid
from jaxml.dp.ledger import Ledger, LedgerError
from jaxml.dp.poisson import dpsgd_epsilon
from jaxml.dp.privacy import (
    PrivacyReport,
    calibrate_noise,
    composition,
    hidden_state,
    poisson_report,
)
from jaxml.dp.train import train_noisy_cgd

__all__ = [
    "PRESETS",
    "ConvexReLUConfig",
    "Ledger",
    "LedgerError",
    "NoisyCGDConfig",
    "PrivacyReport",
    "accuracy",
    "calibrate_noise",
    "clipped_grad",
    "composition",
    "contraction_factor",
    "dpsgd_epsilon",
    "feature_norms",
    "gates",
    "gdp_delta",
    "gdp_epsilon",
    "hidden_state",
    "logits",
    "noisy_cgd_mu",
    "noisy_cgd_projected_mu",
    "noisy_gd_mu",
    "poisson_report",
    "sample_gates",
    "train_grid",
    "train_noisy_cgd",
]
