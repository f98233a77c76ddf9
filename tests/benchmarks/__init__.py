"""How fast it is, beside others that do the same: scripts/bench."""
