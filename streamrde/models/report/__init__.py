"""A training run on one page: measured (quality, resolution, speed), told (sections, workings), drawn (svg, page)."""
