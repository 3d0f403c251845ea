"""MQTT: samples in, predictions out, and recorded samples out for a replay."""

from streamrde.connectors.access import Tls
from streamrde.connectors.messages import Subscription
from streamrde.connectors.mqtt.config import MqttDeadLettersConfig, MqttSinkConfig, MqttSourceConfig
from streamrde.connectors.mqtt.link import MqttLink, Will
from streamrde.connectors.mqtt.publisher import SamplePublisher
from streamrde.connectors.mqtt.sink import MqttDeadLetters, MqttSink, SinkCounts
from streamrde.connectors.mqtt.source import MqttBatch, MqttSource
from streamrde.connectors.mqtt.topics import MqttAddress
from streamrde.connectors.samples import SourceCounts
from streamrde.connectors.topics import TopicTemplate

__all__ = [
    "MqttAddress",
    "MqttBatch",
    "MqttDeadLetters",
    "MqttDeadLettersConfig",
    "MqttLink",
    "MqttSink",
    "MqttSinkConfig",
    "MqttSource",
    "MqttSourceConfig",
    "SamplePublisher",
    "SinkCounts",
    "SourceCounts",
    "Subscription",
    "Tls",
    "TopicTemplate",
    "Will",
]
