"""Micro-batches: when one is cut, in which order its rows stand, and the training log."""
