"""Workers that share the partitions of Kafka topics, each with the state of the streams in its own."""
