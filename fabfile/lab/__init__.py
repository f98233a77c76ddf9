"""A real fleet on one machine."""
