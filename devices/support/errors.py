"""Errors that end in one sentence for the user, and the exit codes they carry."""
import difflib

OK, CHECK_FAILED, BAD_INPUT, COULD_NOT_MEASURE = 0, 1, 2, 3


class EdgesynthError(Exception):
    """Base of what is shown without a traceback. The message says what is wrong and what to do."""

    exit_code = BAD_INPUT


class UserError(EdgesynthError):
    """A usage mistake or bad input."""


class CheckFailed(EdgesynthError):
    """A requirement was missed or a regression was found."""

    exit_code = CHECK_FAILED


class CannotMeasure(EdgesynthError):
    """Nothing could be measured, or the board could not be reached."""

    exit_code = COULD_NOT_MEASURE


def unknown(kind, word, known):
    """UserError for a name that is not known, with the nearest one suggested.

    kind: what the name stands for ("target"); word: what was given; known: the names that exist.
    """
    known = sorted(known)
    plain = {name.lower(): name for name in known}  # TX2 is nearer to tx2 than to anything
    near = difflib.get_close_matches(str(word).lower(), list(plain), n=1, cutoff=0.5)
    hint = "did you mean {}?".format(plain[near[0]]) if near else "known: {}".format(", ".join(known) or "none")
    return UserError("unknown {} '{}': {}".format(kind, word, hint))


def last_line(text):
    """What a program that failed said last: where it says why, that is there."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
