"""Fit a model to recorded data: closed forms instead of training. Nothing here imports torch.

inputs, targets, recordings   what is read, what it is to predict, and the streams; training reads the same way
discovery                     what the columns hold
ridge, logistic, calibration  linear models in closed form or to a small gradient, and probabilities of their scores
folds, baselines, readout     what is left out in turn, plain models to beat, and readouts measured on it
examples, families            what a family of models learns from, and the families, a module each
pooled                        what they share: headers, features of examples, and bundles of pooled features
recipe, entry                 the choice among families and plain models; `fit`, from files to a model
progress, config              events of a fit and its budget of time; a TOML file that repeats it
intervals, mistakes, early    how sure the measures are, where answers are wrong, and how early they are right
words, usage, document        sentences, commands and a page about the outcome, which `report` holds
serving                       answers of a model as it is served
"""
