"""The engine: thinned networks evaluated fast. Pure tensors: no I/O, no asyncio, no HTTP, no global random state."""
