"""Which core samples power and which cores infer, so that neither disturbs the other."""
import contextlib
import os


def allowed():
    """The numbers of the cores that this process may use, in order; [] where the system does not say."""
    with contextlib.suppress(AttributeError, OSError):
        return sorted(os.sched_getaffinity(0))
    return []


class Settled(object):
    """This process on the last of its cores, whose number is `core`; None, and nothing done, where it has but one.

    The last, since the first serves most interrupts, and is where a single thread of work mostly begins.
    """

    def __init__(self):
        self._before = allowed()
        several = len(self._before) > 1 and _keep_to(self._before[-1:])
        self.core = self._before[-1] if several else None

    def leave(self):
        """Go where there is room: the core turned out to be busy with others, and to be late is worse."""
        if self.core is not None and _keep_to(self._before):
            self.core = None


def leave(core):
    """Keep this process, and what it starts from now on, off a core; True when it is."""
    others = set(allowed()) - {core}
    return bool(others) and _keep_to(others)


def _keep_to(cores):
    try:
        os.sched_setaffinity(0, cores)
    except (AttributeError, OSError):
        return False
    return True
