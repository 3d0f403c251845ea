"""TOML files: one per run, read into frozen structs. An unknown key or a wrong type is an error with file and key."""

from streamrde.config.columns import TimeUnit, columns_of
from streamrde.config.files import ArrowSinkConfig, ArrowSourceConfig
from streamrde.config.mqtt import MqttSinkConfig, MqttSourceConfig
from streamrde.config.run import RunConfig

__all__ = [
    "ArrowSinkConfig",
    "ArrowSourceConfig",
    "MqttSinkConfig",
    "MqttSourceConfig",
    "RunConfig",
    "TimeUnit",
    "columns_of",
]
