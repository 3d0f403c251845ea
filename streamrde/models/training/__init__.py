"""Training from recorded files. In the order of a run:

config, overrides, defaults        the TOML file and its keys; `TrainConfig.header` maps it to the model's header
segments                labelled parts of streams; these, and what each window is to predict, are read by `fitting`
streams, splits, cache  all streams of a run, and which of them train, validate and test
preflight, preparation  checks before a run; windows of all streams, fills, classes, scales
examples, batches, augmentation, mixing    windows as tensors, and variants of the training streams
members, initialisation, shrinkage    one model or an ensemble; its first weights; its claims at the end
optimisation, trainer, propagation, losses, schedules, stability, checkpoint    epochs, steps, and what keeps them safe
measures, baselines, novelty, statistics, verdict    judging the result, and describing the training data in the model
run, history, progress, provenance, score_file       the run itself (`train`), and its output
"""
