"""What the agent uses of pycuda.driver."""
import ctypes
import os
import time


class Error(Exception):
    pass


def init():
    if os.environ.get("CUDA_DOUBLE_BROKEN"):
        raise Error("cuInit failed: no CUDA-capable device is detected")


stack = []  # the real one aborts a process that ends with a context on it


class _Context(object):
    def push(self):
        stack.append(self)

    def pop(self):
        stack.pop()


class Device(object):
    def __init__(self, number):
        pass

    @staticmethod
    def count():
        return 1

    def retain_primary_context(self):
        return _Context()

    def compute_capability(self):
        return (6, 2)


class _Memory(object):
    def __init__(self, size):
        self.buffer = ctypes.create_string_buffer(max(size, 8192))

    def __int__(self):
        return ctypes.addressof(self.buffer)

    def free(self):
        self.buffer = None


mem_alloc = _Memory


def pagelocked_empty(size, dtype):
    return bytearray(size)


def memcpy_htod_async(target, source, stream):
    target.buffer[:len(source)] = bytes(source)


def memcpy_dtoh_async(target, source, stream):
    target[:] = source.buffer[:len(target)]


class Stream(object):
    handle = 77

    def synchronize(self):
        pass


class Event(object):
    def record(self, stream):
        self.time = time.monotonic()

    def synchronize(self):
        pass

    def time_till(self, other):
        return 1000.0 * (other.time - self.time)
