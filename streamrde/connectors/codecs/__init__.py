"""Payloads: samples in and out, predictions out. The module of a format has the format's name.

rows          is the base of json, msgpack, cbor and text
shapes        finds samples in parsed payloads of any shape, by paths; structs reads plain numbers faster
tahu          has the messages of sparkplug
points        reads the text that lines has its samples from
predictions   says which fields a prediction has
checks        refuse payloads that are too long or have no samples, refusals says why
"""

from streamrde.connectors.codecs.arrow import ArrowCodec
from streamrde.connectors.codecs.cbor import CborCodec
from streamrde.connectors.codecs.json import JsonCodec
from streamrde.connectors.codecs.lines import LinesCodec
from streamrde.connectors.codecs.msgpack import MessagePackCodec
from streamrde.connectors.codecs.packed import PackedCodec
from streamrde.connectors.codecs.predictions import decode_prediction, encode_prediction
from streamrde.connectors.codecs.sparkplug import SparkplugCodec
from streamrde.connectors.codecs.text import TextCodec

__all__ = [
    "ArrowCodec",
    "CborCodec",
    "JsonCodec",
    "LinesCodec",
    "MessagePackCodec",
    "PackedCodec",
    "SparkplugCodec",
    "TextCodec",
    "decode_prediction",
    "encode_prediction",
]
