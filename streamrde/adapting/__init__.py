"""Learning from labels that come late: an online readout, simple baselines, and their errors. No I/O, no clock.

    targets.py     the outputs of a model, in their own units and in those in which corrections are learned
    settings.py    options of a user, and what training found out about streams it had not seen
    pending.py     predictions that wait for their labels
    readout.py     the correction of the outputs: a Kalman filter with mean reversion
    baselines.py   last label, mean of labels, their blend, and the errors of all
    section.py     all of it, in the columns of a stream's row
    learning.py    settings of the correction, from streams that the model has not seen

Everything that a stream learns lies in its row, so that snapshots, checkpoints and swaps of models keep it.
"""
