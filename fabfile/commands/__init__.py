"""The tasks of ``fab``: each one parses, calls, and turns the outcome into an exit code.

Everything heavy is imported inside the tasks, so that ``fab --list`` stays quick.
"""
