"""A picture of what a model is fed."""
