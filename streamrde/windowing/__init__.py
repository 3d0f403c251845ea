"""Cut the samples of streams into windows. A sample passes these modules in order:

order, ordering        put samples into order of time; count those that are late, repeated or unusable
missing, settling      find the values of channels that a sample has not observed
gaps                   cut the path where a stream was silent for too long
policies/              say where windows end: one file for each policy, and the contract of all
walk                   build the path piece by piece, cut it at edges, close windows
loop                   carry rows of samples through all of this: push, advance, flush
partition, rows        a model's rules in one object; the row of numbers that is a stream's state
compiled               make the compiled twin of the loop (kernels/ has a file of the same name for each module)
recorded, logsigs      cut whole recordings by the same loop; `logsig_windows`
"""

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
