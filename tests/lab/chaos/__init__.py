"""Faults on purpose, under load, on the real lab: what scripts/chaos runs."""
