"""What all tests share."""

import signal

# Whoever runs the tests in the background of a shell hands an ignored SIGINT down to every program
# they start, and then no Ctrl-C can be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
