"""The demo: recordings of a smart watch over MQTT, many streams at once, classified while they run."""
