"""What ``fab`` runs: the tasks that touch hosts."""
