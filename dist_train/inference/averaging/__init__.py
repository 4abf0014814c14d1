"""Averages of trained weights, as runs of their own."""
