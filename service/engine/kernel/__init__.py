"""The engine's innermost loop in C, and how it is built, loaded and called."""
