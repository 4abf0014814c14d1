"""Programs around the trainer: submit runs to a cluster, watch them, compare their results. Imports no torch."""
