"""Answers that were given before, or are just being computed for somebody else who asks the same."""
