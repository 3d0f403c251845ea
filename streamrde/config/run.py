"""A whole run: what `streamrde run` reads."""

from __future__ import annotations

import msgspec

from streamrde.config.files import ArrowSinkConfig, ArrowSourceConfig
from streamrde.config.mqtt import MqttSinkConfig, MqttSourceConfig
from streamrde.inference.table import OnFault


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run: from a source through a model to a sink."""

    model: str
    """Path of the model file."""
    source: MqttSourceConfig | ArrowSourceConfig
    sink: MqttSinkConfig | ArrowSinkConfig
    faults: OnFault = "drop"
    """A late, repeated or unusable sample: "drop" counts and skips it, "error" stops the run."""
    flush: bool = True
    """When the source ends or the run is stopped, close the open windows and publish their predictions."""
