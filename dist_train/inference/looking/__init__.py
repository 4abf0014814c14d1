"""The command ``look``."""
