"""The page about a run: the command `report`."""
