"""One module per way to walk a service from one release to the next."""
