"""Programs around the trainer: put a run on a cluster, watch it, compare what came out. No torch here."""
