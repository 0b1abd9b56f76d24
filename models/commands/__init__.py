"""Commands of `python -m models` that are more than a few lines: what they print, and in which order things happen."""
