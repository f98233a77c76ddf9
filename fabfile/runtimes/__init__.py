"""What runs containers: Compose, and the registry images come from."""
