"""How good is a store's model? Replays the training log, predicting before training.

Light modules: `figures` (definitions), `bootstrap` (intervals), `tally`, `slices`,
`heads`, `lists`, `means`, `recorded` (what manifests say). `replay` loads TensorFlow.
"""
