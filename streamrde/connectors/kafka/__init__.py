"""Kafka: samples from partitions by a consumer group, predictions and dead letters to topics."""

from streamrde.connectors.kafka.config import KafkaDeadLettersConfig, KafkaSinkConfig, KafkaSourceConfig

__all__ = ["KafkaDeadLettersConfig", "KafkaSinkConfig", "KafkaSourceConfig"]
