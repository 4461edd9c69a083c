"""A machine that has the stand-in for pycuda has no libcudart: the memory of a true one is no host's."""
import ctypes

_CDLL = ctypes.CDLL


class CDLL(_CDLL):
    def __init__(self, name, *words, **options):
        if "cudart" in str(name):
            raise OSError("the stand-in for pycuda is used instead")
        _CDLL.__init__(self, name, *words, **options)


ctypes.CDLL = CDLL
