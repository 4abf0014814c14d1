"""Which images: for validation, for training, and how often each."""
