"""TOML files: one per run, read into frozen structs. An unknown key or a wrong type is an error with file and key."""

from streamrde.config.columns import TimeKeys, columns_of
from streamrde.config.files import ArrowSinkConfig, ArrowSourceConfig, PartsSinkConfig
from streamrde.config.mqtt import MqttDeadLettersConfig, MqttSinkConfig, MqttSourceConfig
from streamrde.config.run import RunConfig
from streamrde.config.service import FileDeadLettersConfig, ServiceConfig, StateConfig

__all__ = [
    "ArrowSinkConfig",
    "ArrowSourceConfig",
    "FileDeadLettersConfig",
    "MqttDeadLettersConfig",
    "MqttSinkConfig",
    "MqttSourceConfig",
    "PartsSinkConfig",
    "RunConfig",
    "ServiceConfig",
    "StateConfig",
    "TimeKeys",
    "columns_of",
]
