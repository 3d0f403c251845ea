"""The report of a training run: figures (quality, resolution, speed), text (sections, workings), page, svg."""
