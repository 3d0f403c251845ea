"""Serving a trained model: the bundle on disk, the log-ODE step on arrays, and stateful predictors. No torch."""

from streamrde.inference.bundle import Bundle, load
from streamrde.inference.ensemble import join
from streamrde.inference.feature_rows import FeatureRows
from streamrde.inference.fields import MLP, Linear, LogNCDE, Stack
from streamrde.inference.fleet import Fleet
from streamrde.inference.header import Channel, Head, Header
from streamrde.inference.predictions import Prediction
from streamrde.inference.predictor import Predictor
from streamrde.inference.steppers.onnx import OnnxStepper

__all__ = [
    "MLP",
    "Bundle",
    "Channel",
    "FeatureRows",
    "Fleet",
    "Head",
    "Header",
    "Linear",
    "LogNCDE",
    "OnnxStepper",
    "Prediction",
    "Predictor",
    "Stack",
    "join",
    "load",
]
