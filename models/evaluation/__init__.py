"""How good is a store's model? Replays the training log, predicting before training.

Light modules: `metric_definitions`, `metric_sums`, `slices`, `head_metrics`, `list_metrics`,
`running_means` (the simplest predictors), `from_manifests` (what the manifests say already),
`report`. `log_replay` loads TensorFlow.
"""
