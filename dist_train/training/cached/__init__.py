"""Features that are computed once, for a head that trains alone."""
