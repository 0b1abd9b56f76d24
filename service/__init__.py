"""The service: answers predictions and Monte Carlo dropout samples over HTTP."""
