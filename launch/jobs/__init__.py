"""What is submitted: options, sweeps, containers, the copy of the code; and what no cluster could start."""
