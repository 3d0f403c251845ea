"""Random features of tokens, pooled over a stream's life in constant memory.

    spec.py      which directions are drawn and what is kept of them: part of a model's header
    drawing.py   directions from a seed, biases from training tokens
    names.py     names of a token's entries and of the features
    pooling.py   the state of a stream: what a token changes in it, and its features
    expansion.py ranks of pooled features, curves of them and random pairs, for the readout

A token (see windowing.tokens) is standardised, `s = clip(r((token - shift) scale))` with r the identity or the signed
square root, and seen along random directions, ``h = W s - b``. Features are pools of h and of s over all windows so
far: the share of windows with h > 0, the mean of max(h, 0), the largest h, the last value, and means that fade. A
linear readout of them is fitted in closed form.

Reference: Dempster et al. 2020 (random kernels, share above, maximum); Cuchiero et al. 2021 (random signatures).
"""

from streamrde.features.drawing import Drawn, draw
from streamrde.features.pooling import Pooling, make_pooling, pool_streams
from streamrde.features.spec import Block, FeatureSpec, Pool

__all__ = ["Block", "Drawn", "FeatureSpec", "Pool", "Pooling", "draw", "make_pooling", "pool_streams"]
