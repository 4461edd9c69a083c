"""A whole measurement: settings, preflight, idle, trials, layers; a record that everything can be recomputed from."""
import contextlib
import os

from devices.support.errors import UserError
from devices.support.files import sha256_file, whole_path
from edge_bench.agent import engines, evaluate, interpreter, runners, settings, trials
from edge_bench.agent.arguments import complete
from edge_bench.agent.identity import is_jetson
from edge_bench.agent.joules import PowerSession
from edge_bench.agent.lock import board_lock
from edge_bench.agent.preflight import over_currents, preflight, throttling


def measure(given, progress=lambda text: None):
    """Measure as the arguments say and return (result, record).

    given: {"model": path, and any of `arguments.BENCH`}; also "root" (of the file system) and "locked_board" (take the
    board lock even where this is no Jetson). progress: called with a line of text when a stage begins. The record
    holds the raw trials and power samples; `evaluate.evaluate(record)` makes the same result of it again.
    """
    request = prepare(given)
    with board_held(request, "the measurement of {}".format(os.path.basename(request["model"])), progress):
        return _measure(request, progress)


def build_engine(given, progress=lambda text: None):
    """`engines.build` with the board locked and its settings as the request wants them, as for a measurement: either
    would disturb the other. The engine stays until a person removes it."""
    request = complete(given)
    request.setdefault("root", "/")
    with board_held(request, "the build of {}".format(os.path.basename(request["model"])), progress):
        return engines.build(dict(request, keep=True), progress)


def prepare(given):
    """The request with every argument, checked, with the runner and the Python of its trials chosen."""
    request = complete(given)
    model = request["model"]
    runners.require_file(model)
    request["model"] = whole_path(model)
    root = request.setdefault("root", "/")
    request["runner"] = request["runner"] or runners.runner_for(request["model"], root)
    runners.runner_class(request["runner"])
    request["python"] = interpreter.choose(request["runner"], request["board_python"])
    return request


@contextlib.contextmanager
def board_held(request, what, progress):
    """The board locked and its settings as the request wants them, for the block; a host needs neither."""
    root = request["root"]
    with contextlib.ExitStack() as held:
        if request.get("locked_board") or is_jetson(root):
            held.enter_context(board_lock(root, what, request["wait"], progress))
            held.enter_context(settings.applied(request["mode"], request["lock"], root, progress))
        elif request["mode"] or request["lock"]:
            raise UserError("--mode and --lock are for Jetson boards; this machine is none")
        yield


def _measure(request, progress):
    """The measurement under settings that stay."""
    model = request["model"]
    record: dict = {"created": evaluate.now_utc(), "request": request, "trials": [], "power": None, "layers": None,
                    "model": evaluate.describe_model(model, sha256_file(model))}
    if request["runner"] in runners.NEED_ENGINE and runners.is_onnx(model):
        request["engine"] = engines.build(request, progress)["engine"]
    run_trials(record, [(request, progress)] * request["trials"], progress)
    if request["layers"]:
        record["layers"] = trials.profile_layers(request, progress)
    return evaluate.evaluate(record), record


def run_trials(record, turns, progress):
    """Preflight, idle power and trials, under one sampler, into the record.

    turns: (request, progress) of each trial, in order; their requests are of one board and agree about power.
    """
    first = turns[0][0]
    progress("preflight")
    record["preflight"] = preflight(first["root"])  # before the sampler, which is no other process's load
    with power_session(first) as power:
        if power:
            power.fit_windows([request for request, _ in turns], progress)
            progress("idle power")
            power.measure_idle()
        for number, (request, tell) in enumerate(turns):
            if power:
                power.check()
            if power and runners.spares_a_core(request):
                request["sampler_core"] = power.core
            before = over_currents(first["root"])
            counted = dict(request, trials=len(turns))  # so that one of a comparison says 3 of 12
            trial = trials.run_trial(counted, number, tell, power.mean_power_mw if power else None,
                                     power.quantum_mw if power else 0.0)
            trial["throttling"] = throttling(first["root"])
            after = over_currents(first["root"])
            trial["over_current"] = {name: after[name] - before[name] for name in after if name in before}
            record["trials"].append(trial)
        if power:
            record["power"] = power.finish()


class _NoPower(object):
    """Stands where no power is measured."""

    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def power_session(request):
    """The sampler for a `with`, or one that is None where no power is asked for."""
    if not (request["power"] or request["power_source"]):
        return _NoPower()
    return PowerSession(request["power_source"], request["root"], runners.runs_on(request["runner"]))
