"""Places that models come from, besides the libraries by name."""
