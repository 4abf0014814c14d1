"""The cache of decoded images, for ``augment.device``: one file that all ranks of a node build and read."""
