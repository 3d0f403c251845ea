"""`streamrde bench`: the kernels beside their peers, in the same run, on the same threads.

measuring   rounds in which every engine of a case runs in turn; ratios within a round
peers       the log-signature libraries that are installed, each behind the same two functions
steps       the cases of the model's step, beside torch, torchcde and onnxruntime
scales      the cases of several scales, and of the reservoirs that they drive
kernels     the cases: samples one by one, windows, batches, fleets
report      the machine, the table, the chart
"""

from streamrde.bench.kernels import GROUPS, cases
from streamrde.bench.measuring import Case, Figure, measure
from streamrde.bench.report import chart, machine, table

__all__ = ["GROUPS", "Case", "Figure", "cases", "chart", "machine", "measure", "table"]
