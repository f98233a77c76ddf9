"""Balancers: what to say to them, and what their answers mean."""
