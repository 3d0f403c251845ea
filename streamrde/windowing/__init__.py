"""From samples to windows: policies, order in time, interpolation and missing values."""

from streamrde.windowing.logsigs import logsig_windows
from streamrde.windowing.policies import Count, Every, Interpolation, Windows

__all__ = ["Count", "Every", "Interpolation", "Windows", "logsig_windows"]
