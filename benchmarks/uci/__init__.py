"""The published UCI regression protocol, end to end through the service."""
