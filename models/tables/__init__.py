"""Training from a table that somebody brings: read it, understand its columns, train, report. Knows nothing of HTTP."""
