"""Bring the entries of tokens to order one, as a model's field takes them."""

from __future__ import annotations

import numpy as np

from streamrde.arrays import Floats
from streamrde.inference.bundle import Bundle


class TokenScaling:
    """Shift, scale and clip tokens, as NumPy does it. The compiled step and the torch model do the same.

    A log-signature alone is only scaled, ``l * logsig.scale``: a window in which nothing happens must not move the
    state. Any other token becomes ``clip((l - token.shift) * logsig.scale, -clip, clip)``. The shift of its
    log-signatures is usually 0 for the same reason. Summaries of channels without an observation are NaN, and become 0.
    """

    def __init__(self, bundle: Bundle) -> None:
        header = bundle.header
        self.scale: Floats = np.asarray(bundle.tensors["logsig.scale"], np.float64)
        """(B,)."""
        shift = bundle.tensors["token.shift"] if header.shifts_tokens else None
        self.shift: Floats | None = None if shift is None else np.asarray(shift, np.float64)
        """(B,). None: tokens are neither shifted nor clipped."""
        self.clip = header.clip
        """0: no entry is clipped."""
        self.summaries = header.partition.places.summaries.start
        """Place from which NaN means that a channel was not observed. Before it, NaN stays."""

    def __call__(self, tokens: Floats) -> Floats:
        """Return tokens (n, B) as they enter the field before they are rounded to the model's dtype."""
        if self.shift is None:
            return tokens * self.scale
        scaled = (tokens - self.shift) * self.scale
        summaries = scaled[:, self.summaries :]
        summaries[np.isnan(summaries)] = 0.0
        return np.clip(scaled, -self.clip, self.clip, out=scaled) if self.clip else scaled
