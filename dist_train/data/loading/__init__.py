"""How batches come from loader processes: the memory, what is sent, and what the machine must have."""
