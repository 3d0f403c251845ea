"""A training run on one page: what was measured (quality, resolution, speed), drawn (svg), told (sections, page)."""
