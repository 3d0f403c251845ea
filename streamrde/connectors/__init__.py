"""Sources of samples and destinations of predictions: one module per system, source and sink together.

Connectors know `Samples` and prediction record batches; they know neither models nor windows.
"""

from streamrde.connectors.samples import Columns, Samples

__all__ = ["Columns", "Samples"]
