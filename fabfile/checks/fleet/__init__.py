"""The fleet as it stands: facts of its hosts and balancers, and what is wrong with them. No I/O."""
