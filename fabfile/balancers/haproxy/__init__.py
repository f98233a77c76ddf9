"""HAProxy's runtime API: what to send, and what its answers mean."""
