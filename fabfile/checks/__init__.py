"""Questions put from outside: HTTP health, the prober, the verdict on a fleet."""
