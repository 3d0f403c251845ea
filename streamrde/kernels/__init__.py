"""The arithmetic of the truncated tensor algebra on plain NumPy arrays.

`reference` is the NumPy implementation and the specification of every function here. A signature is one row of
float64: levels 1 to depth one after the other, each in C order (the last letter runs fastest); level 0, always 1, is
left out.
"""

from streamrde.kernels.reference import chen, fold, level_slices, multiply_exp, signature_channels, tensor_log

__all__ = ["chen", "fold", "level_slices", "multiply_exp", "signature_channels", "tensor_log"]
