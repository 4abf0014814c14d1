"""The parts of a run: objects given in code, the state at step 0, and trial passes through the model."""
