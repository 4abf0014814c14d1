"""What is said about a config: refused, advised, migrated from older versions, compared at a resume."""
