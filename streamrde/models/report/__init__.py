"""The report of a training run: figures (quality, resolution, speed) and text (sections, workings)."""
