"""Fine-tuning: the one stage that holds a model."""
