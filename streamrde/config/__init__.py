"""TOML files: one per run, read into frozen structs. An unknown key or a wrong type is an error with file and key."""

from streamrde.config.run import RunConfig
from streamrde.config.service import ServiceConfig
from streamrde.config.state import KafkaStateConfig, StateConfig

__all__ = ["KafkaStateConfig", "RunConfig", "ServiceConfig", "StateConfig"]
