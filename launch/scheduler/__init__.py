"""What SLURM says of jobs, nodes and partitions."""
