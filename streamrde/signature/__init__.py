"""Signatures and log-signatures: of whole paths, and of paths that grow. Knows no time."""

from streamrde.signature.accumulator import LogSignature
from streamrde.signature.paths import log_coordinates, logsignature, signature
from streamrde.signature.words import Basis, logsignature_channels, lyndon_words

__all__ = [
    "Basis",
    "LogSignature",
    "log_coordinates",
    "logsignature",
    "logsignature_channels",
    "lyndon_words",
    "signature",
]
