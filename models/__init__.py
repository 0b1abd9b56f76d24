"""The networks: what they are, how they are trained, and where they are kept.

Imports torch and pydantic; knows nothing of HTTP, of seeds per request, or of the client.
"""
