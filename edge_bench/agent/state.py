"""Where the agent keeps what outlives it on a board: jobs, uploaded files, engines, the journal of settings."""
import os

from devices.support.errors import UserError
from devices.support.files import explain


def place(*parts):
    """A path below the agent's folder (~/.local/state/edgesynth, or $XDG_STATE_HOME/edgesynth), for who only looks."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "edgesynth", *parts)


def home(*parts):
    """The same for who writes there: its folder exists."""
    path = place(*parts)
    make_folder(os.path.dirname(path))
    return path


def make_folder(path):
    """Make a folder and its parents. UserError with the reason where that fails."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError("{} (XDG_STATE_HOME names another place for what edgesynth keeps)".format(explain(error, path)))
    return path
