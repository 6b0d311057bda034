"""Safety: RSS, time to collision, calibration and ensembles, and a monitor of any planner."""

from jaxml.driving.safety import monitor, overlap, rss, uncertainty
from jaxml.driving.safety.config import RSSConfig

__all__ = ["RSSConfig", "monitor", "overlap", "rss", "uncertainty"]
