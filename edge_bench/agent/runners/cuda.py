"""Device memory, streams and events: by ctypes on libcudart, through pycuda where that library is not found.

`open_cuda()` is called before TensorRT is touched: without a working device TensorRT can crash the process.
"""
import ctypes
import glob

from devices.support.errors import CannotMeasure

TO_DEVICE, TO_HOST = 1, 2                  # cudaMemcpyKind
_MAJOR, _MINOR = 75, 76                    # cudaDevAttrComputeCapabilityMajor and Minor
_LIBRARIES = ("libcudart.so", "libcudart.so.10.2", "libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13")


def open_cuda():
    """The CUDA of this machine, device 0. CannotMeasure when there is no device, driver or library."""
    library = _load_library()
    if library is not None:
        return CtypesCuda(library)
    # pycuda imports numpy, which ends the process by SIGILL on a JetPack 4.6 as it comes: not where it can be helped
    try:
        import pycuda.driver  # noqa: F401 (whether it is there)
    except Exception:  # not only ImportError: its module breaks in many ways where the driver is not its own
        raise CannotMeasure("CUDA is not here (neither libcudart nor pycuda can be loaded): TensorRT needs a GPU with "
                            "CUDA")
    return PyCuda()


class CtypesCuda(object):
    """libcudart by ctypes; works from CUDA 10.2 on and needs nothing else. Pointers are plain integers."""

    name = "ctypes"

    def __init__(self, library):
        self.library = library
        self.library.cudaGetErrorString.restype = ctypes.c_char_p
        count = ctypes.c_int(0)
        self._call("cudaGetDeviceCount", ctypes.byref(count))
        if count.value < 1:
            raise CannotMeasure("CUDA finds no device: TensorRT cannot run here")
        self._call("cudaSetDevice", ctypes.c_int(0))

    def _call(self, function, *arguments):
        code = getattr(self.library, function)(*arguments)
        if code != 0:
            words = (self.library.cudaGetErrorString(ctypes.c_int(code)) or b"").decode("utf-8", "replace")
            raise CannotMeasure("CUDA: {} failed with error {} ({})".format(function, code, words))

    def _pointer(self, function, *arguments):
        pointer = ctypes.c_void_p()
        self._call(function, ctypes.byref(pointer), *arguments)
        return pointer.value

    def compute_capability(self):
        """(major, minor) of the device, e.g. (6, 2) for a TX2."""
        found = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int(0)
            self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), ctypes.c_int(0))
            found.append(value.value)
        return tuple(found)

    def malloc(self, size):
        return self._pointer("cudaMalloc", ctypes.c_size_t(size))

    def free(self, pointer):
        self._call("cudaFree", ctypes.c_void_p(pointer))

    def host_buffer(self, size):
        """Page-locked host memory as a writable buffer; copies from and to it are true device copies."""
        pointer = self._pointer("cudaMallocHost", ctypes.c_size_t(size))
        return (ctypes.c_char * size).from_address(pointer)

    def free_host(self, buffer):
        self._call("cudaFreeHost", ctypes.c_void_p(ctypes.addressof(buffer)))

    def to_device(self, pointer, buffer, stream):
        self._copy(ctypes.c_void_p(pointer), ctypes.c_void_p(ctypes.addressof(buffer)), buffer, TO_DEVICE, stream)

    def to_host(self, buffer, pointer, stream):
        self._copy(ctypes.c_void_p(ctypes.addressof(buffer)), ctypes.c_void_p(pointer), buffer, TO_HOST, stream)

    def _copy(self, target, source, buffer, kind, stream):
        self._call("cudaMemcpyAsync", target, source, ctypes.c_size_t(len(buffer)), ctypes.c_int(kind),
                   ctypes.c_void_p(stream))

    def stream(self):
        return self._pointer("cudaStreamCreate")

    def handle(self, stream):
        """The stream as the integer that TensorRT takes."""
        return stream

    def synchronise(self, stream):
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def event(self):
        return self._pointer("cudaEventCreate")

    def record(self, event, stream):
        self._call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def wait(self, event):
        self._call("cudaEventSynchronize", ctypes.c_void_p(event))

    def elapsed_ms(self, start, end):
        value = ctypes.c_float(0)
        self._call("cudaEventElapsedTime", ctypes.byref(value), ctypes.c_void_p(start), ctypes.c_void_p(end))
        return value.value

    def close(self):
        pass  # the process ends with the trial, and the driver frees its context


def _load_library():
    """libcudart, or None where it is not found."""
    tried = list(_LIBRARIES) + sorted(glob.glob("/usr/local/cuda*/lib64/libcudart.so*"))
    for name in tried:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


class PyCuda(object):
    """The same through pycuda, on the device's primary context, which TensorRT uses too."""

    name = "pycuda"

    def __init__(self):
        import pycuda.driver as driver
        self.driver = driver
        try:
            driver.init()
            if driver.Device.count() < 1:
                raise CannotMeasure("CUDA finds no device: TensorRT cannot run here")
            self.device = driver.Device(0)
            retain = getattr(self.device, "retain_primary_context", None)
            self.context = retain() if retain else self.device.make_context()
            if retain:
                self.context.push()
        except driver.Error as error:
            raise CannotMeasure("CUDA does not start ({}): TensorRT cannot run here".format(error))

    def compute_capability(self):
        return tuple(self.device.compute_capability())

    def malloc(self, size):
        try:
            return self.driver.mem_alloc(size)
        except self.driver.Error as error:
            raise CannotMeasure("CUDA: {} bytes of device memory are not to be had ({})".format(size, error))

    def free(self, pointer):
        pointer.free()

    def host_buffer(self, size):
        return self.driver.pagelocked_empty(size, "uint8")

    def free_host(self, buffer):
        pass  # freed with the array

    def to_device(self, pointer, buffer, stream):
        self.driver.memcpy_htod_async(pointer, buffer, stream)

    def to_host(self, buffer, pointer, stream):
        self.driver.memcpy_dtoh_async(buffer, pointer, stream)

    def stream(self):
        return self.driver.Stream()

    def handle(self, stream):
        return stream.handle

    def synchronise(self, stream):
        stream.synchronize()

    def event(self):
        return self.driver.Event()

    def record(self, event, stream):
        event.record(stream)

    def wait(self, event):
        event.synchronize()

    def elapsed_ms(self, start, end):
        return start.time_till(end)

    def close(self):
        self.context.pop()
