"""The embedded fleet: real hosts on one machine, for the demo, the tests and first minutes."""
