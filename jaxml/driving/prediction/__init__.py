"""Forecasts of pedestrians and vehicles, with the rows that learn nothing beside them."""

from jaxml.driving.prediction import baselines, eigen, evaluate, objective, social, train
from jaxml.driving.prediction.config import PRESETS, SocialConfig, TrainConfig
from jaxml.driving.prediction.eigen import EigenSpace
from jaxml.driving.prediction.observed import Observed, observe
from jaxml.driving.prediction.social import Forecast

__all__ = [
    "PRESETS", "EigenSpace", "Forecast", "Observed", "SocialConfig", "TrainConfig", "baselines",
    "eigen", "evaluate", "objective", "observe", "social", "train",
]  # fmt: skip
