"""What a run is built from: objects given in code, the state at step 0, a trial of the model."""
