"""The thirty checks of SECURITY.md, with figures: `make harden`."""
