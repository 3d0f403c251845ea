"""Fit a model to recorded data: closed forms instead of training. Nothing here imports torch.

inputs, targets, recordings   what is read, what it is to predict, and the streams; training reads the same way
discovery                     what the columns hold
recipe, entry                 random features and ridge regression; `fit`, from files to a model
"""
