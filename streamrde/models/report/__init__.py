"""The report of a training run: measurements (quality, resolution, speed), texts (sections, workings), drawing (svg,
page).
"""
