"""What carries the engine's steps out: for real, on paper, in simulation."""
