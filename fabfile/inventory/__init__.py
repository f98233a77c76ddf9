"""hosts.yaml, checked and frozen."""
