"""Parameters by name, type and place in the model."""
