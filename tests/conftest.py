"""What all tests share."""

import signal

from hypothesis import settings

# Whether a test passes must not hang on how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Whoever runs the tests in the background of a shell hands an ignored SIGINT down to every program
# they start, and then no Ctrl-C can be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
