"""One micro-batch after another: prepare, predict, learn, remember."""
