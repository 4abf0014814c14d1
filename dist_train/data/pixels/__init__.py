"""The scan of a data set, kept in the run folder: a start that finds nothing changed does not scan again."""
