"""A stand-in for pycuda: memory is the host's, streams are synchronous. Python 3.6 and later, without numpy."""
