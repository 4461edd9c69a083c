"""What a power sensor really does, found by looking: how often it changes, and in what steps."""
import time

CANDIDATES = 40          # steps that are tried as the quantum
NEAR, SHARE = 0.12, 0.9  # this share of all differences must lie so near to whole steps
LARGEST = 0.04           # of the power: no sensor steps so far; what is more is the load


def find_refresh(read, clock=time.monotonic, limit_s=1.0, reads=1000, pause_s=0.0):
    """(refresh_s or None, read_s): how often a value changes, and how long a reading takes.

    read: function that gives the value. Reads on and on until `limit_s` or `reads` steps. The refresh is the median
    time between changes, None when fewer than 4 were seen: a steady value shows no refresh.
    """
    start = clock()
    now, last = start, read()
    changes: list = []
    durations: list = []
    while not durations or (now - start < limit_s and len(durations) < reads):
        before = clock()
        value = read()
        now = clock()
        durations.append(now - before)
        if value != last:
            changes.append((before + now) / 2)
            last = value
        if pause_s:
            time.sleep(pause_s)
    durations.sort()
    return refresh_of(changes), durations[len(durations) // 2]


def refresh_of(change_times):
    """The median time between changes in seconds; None for fewer than 4 changes."""
    steps = sorted(b - a for a, b in zip(change_times, change_times[1:]))
    return steps[len(steps) // 2] if len(steps) >= 3 else None


def quantum_of(values):
    """The step in mW that differences between consecutive values are multiples of; None where there is no such step.

    The largest step that 90 % of the differences lie near to whole multiples of. Nearness allows for the small
    changes of the voltage that each step of the current is multiplied with.
    """
    values = [value for value in values if value is not None]
    largest = LARGEST * sorted(values)[len(values) // 2] if values else 0.0
    differences = sorted(each for each in {round(abs(b - a), 3) for a, b in zip(values, values[1:])}
                         if 0 < each <= largest)
    if not differences:
        return None
    for step in reversed(differences[:CANDIDATES]):
        near = sum(abs(each / step - round(each / step)) <= NEAR for each in differences)
        if near >= SHARE * len(differences) and step <= 3 * differences[len(differences) // 2]:
            return step
    return None
