"""What is said about a data set: its classes, its pixels, what was left aside, and overlap of the splits."""
