"""Payloads: samples in and out, predictions out. One module per family of formats."""

from streamrde.connectors.codecs.arrow_ipc import ArrowCodec
from streamrde.connectors.codecs.codec import MAX_BYTES, Codec, check_size
from streamrde.connectors.codecs.packed import PackedCodec
from streamrde.connectors.codecs.predictions import PREDICTION_ENCODERS, decode_prediction, encode_prediction
from streamrde.connectors.codecs.rows import CborCodec, JsonCodec, MessagePackCodec

__all__ = [
    "MAX_BYTES",
    "PREDICTION_ENCODERS",
    "ArrowCodec",
    "CborCodec",
    "Codec",
    "JsonCodec",
    "MessagePackCodec",
    "PackedCodec",
    "check_size",
    "decode_prediction",
    "encode_prediction",
]
