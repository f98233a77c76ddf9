"""What each task does once its flags are typed: flags in, words and exit code out.

Imported lazily by the tasks: this pulls in everything.
"""
