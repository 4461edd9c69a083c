"""Property tests draw the same examples in every run and have no clock to beat: a failure is a fault, no weather."""

import signal

from hypothesis import settings

settings.register_profile("edgesynth", derandomize=True, deadline=None, database=None, print_blob=False)
settings.load_profile("edgesynth")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every program that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
