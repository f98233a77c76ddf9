"""The only door to a host."""
