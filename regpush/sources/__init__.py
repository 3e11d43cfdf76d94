"""Sources: the name of a target becomes a closure."""
