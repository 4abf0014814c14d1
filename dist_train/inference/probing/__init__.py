"""Compare models on a data set before training."""
