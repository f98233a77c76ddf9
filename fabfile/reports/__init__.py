"""Events in; consoles, files and metrics out."""
