"""A whole measurement: preflight, idle, trials, layers; a record that everything can be recomputed from."""
import os

from devices.support.errors import UserError
from devices.support.files import sha256_file
from edge_bench.agent import evaluate, trials
from edge_bench.agent.arguments import complete
from edge_bench.agent.preflight import preflight

IDLE_S = 5.0


def measure(given, progress=lambda text: None):
    """Measure as the arguments say and return (result, record).

    given: {"model": path, and any of `arguments.BENCH`}; also "root" (of the file system) and "python" (interpreter
    of the trials). progress: called with a line of text when a stage begins. The record holds the raw trials and
    power samples; `evaluate.evaluate(record)` makes the same result of it again.
    """
    request = complete(given)
    model = request["model"]
    if not os.path.isfile(model):
        raise UserError("{}: {}".format(model, "it is a folder; name a model file" if os.path.isdir(model)
                                        else "there is no such file"))
    request["model"] = os.path.abspath(model)
    request["python"] = request.get("python")
    root = request.setdefault("root", "/")
    with _power(request) as power:
        progress("preflight")
        record = {"created": evaluate.now_utc(), "request": request, "preflight": preflight(root),
                  "model": evaluate.describe_model(model, sha256_file(model)), "trials": [], "power": None}
        if power:
            progress("idle power, {:g} s".format(IDLE_S))
            idle = trials.idle(IDLE_S)
        for number in range(request["trials"]):
            record["trials"].append(trials.run_trial(
                request, number, progress, power.mean_power_mw if power else None,
                power.quantum_mw if power else 0.0))
        if power:
            record["power"] = power.finish(idle)
    record["layers"] = trials.profile_layers(request, progress) if request["layers"] else None
    return evaluate.evaluate(record), record


class _NoPower(object):
    """Stands where no power is measured."""

    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def _power(request):
    if not (request["power"] or request["power_source"]):
        return _NoPower()
    from edge_bench.agent.joules import PowerSession
    return PowerSession(request["power_source"], request["root"])
