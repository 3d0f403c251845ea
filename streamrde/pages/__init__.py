"""Self-contained HTML pages, of a training run or a fit.

page            sections, tables, tiles, matrices, and the style sheet
svg             small charts in the page's colours
reliability     predicted probabilities beside observed shares, and their charts
"""
