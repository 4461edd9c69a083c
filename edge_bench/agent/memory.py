"""How much memory processes needed at most."""
import resource


def own_peak_bytes():
    """Of this process since its exec; getrusage would give the peak of the one it was forked from, if larger."""
    try:
        with open("/proc/self/status") as stream:
            return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def peak_bytes():
    """Of this process, or of a program that it ran and waited for, such as trtexec, where that needed more."""
    return max(own_peak_bytes() or 0, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
