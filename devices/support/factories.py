"""A user's own code, named on the command line as `package.module:name` or `path/file.py:name`."""
import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import sys

from devices.support.errors import UserError, unknown


@contextlib.contextmanager
def _user_path(folder):
    """The user's folder at the end of sys.path, for as long as the user's code is looked up or called.

    Never at the front, and not for longer: a user's own export.py or synth.py must not replace ours.
    """
    sys.path.append(folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def is_factory(text):
    """Whether a command-line word names a factory and not something of a registry."""
    return ":" in text


def load_factory(text):
    """The callable that `package.module:name` or `path/file.py:name` names, wrapped to run with the user's folder
    on the path. UserError when there is no such module, or no such name in it."""
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise UserError("'{}' names no factory: write package.module:name or path/file.py:name".format(text))
    folder = os.path.dirname(os.path.abspath(place)) if place.endswith(".py") else os.getcwd()
    with _user_path(folder):
        module = _load_file(place) if place.endswith(".py") else _load_module(place)
    if not hasattr(module, name):
        own = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]  # no `np`, no `torch`
        raise unknown("factory in {}".format(place), name, own)
    factory = getattr(module, name)
    if not callable(factory):
        raise UserError("{} is not a function: name one that returns what is wanted".format(text))

    @functools.wraps(factory)  # so that inspect.signature sees what the user's function takes
    def call(*args, **kwargs):
        with _user_path(folder):
            return factory(*args, **kwargs)

    return call


def accepted(factory, offered):
    """The part of the keyword arguments `offered` that a factory takes by name."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # something built in, which says nothing of itself
        return {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(offered)
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in offered.items() if name in names}


def _load_file(path):
    if not os.path.isfile(path):
        raise UserError("{}: there is no such file".format(path))
    name = "edgesynth_user_" + os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError("{}: is no Python file".format(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError("{}:{}: {}".format(path, error.lineno, error.msg))
    except ImportError as error:
        raise UserError("{}: cannot be imported: {}".format(path, error))
    except (Exception, SystemExit) as error:
        raise _blamed(path, error)
    return module


def _load_module(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError("{}: {}; install it, or name a file: path/file.py:name".format(name, error))
    except (Exception, SystemExit) as error:
        raise _blamed(name, error)


def _blamed(place, error):
    """UserError for code that fails while it is imported."""
    return UserError("{}: fails when it is imported: {}: {}".format(place, type(error).__name__, error))
