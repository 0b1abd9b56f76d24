"""Networks that come from PyTorch, and go back there. Offline only: the service never imports this."""
