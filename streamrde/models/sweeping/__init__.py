"""Many training runs over a space of configurations, compared on the validation streams."""
