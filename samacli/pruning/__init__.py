"""Which rows to keep: scores and selections."""
