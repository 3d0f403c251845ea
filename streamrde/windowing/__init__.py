"""From samples to windows: policies, order in time, interpolation and missing values."""

from streamrde.windowing.gaps import Gap
from streamrde.windowing.logsigs import logsig_windows
from streamrde.windowing.missing import Missing
from streamrde.windowing.order import Order
from streamrde.windowing.partition import Interpolation
from streamrde.windowing.policies import Adaptive, Count, Every, OpenWindow, WindowPolicy, Windows

__all__ = [
    "Adaptive",
    "Count",
    "Every",
    "Gap",
    "Interpolation",
    "Missing",
    "OpenWindow",
    "Order",
    "WindowPolicy",
    "Windows",
    "logsig_windows",
]
