"""The client of the Penumbra service, and the wire contract that both sides share."""

__version__ = "0.1.0"
