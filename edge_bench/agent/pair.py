"""Two models measured in turns as one job: under one board lock, one setting of the board and one sampler.

The trials are those of a single measurement, each a fresh process; only their order differs: base head, head base, ...
"""
import os

from devices.support.errors import UserError
from devices.support.files import sha256_file
from edge_bench.agent import engines, evaluate, measure, runners, trials
from edge_bench.agent.arguments import PAIRS, complete

SCHEMA = "edgesynth.pair-record/1"
BASE, HEAD = SIDES = ("base", "head")


def order(pairs):
    """The side of every trial, in the order they run: pairs turned about as AB BA BA AB.

    A steady drift cancels in every two pairs, one that bends in every four. `pairs`: trials of each side.
    """
    return [side for number in range(pairs) for side in (SIDES[::-1] if number % 4 in (1, 2) else SIDES)]


def complete_pair(given):
    """The request with every argument, checked; "model" is the head, "base" the other file, trials are of each."""
    if not given.get("base"):
        raise UserError("name two models: edgesynth compare BASE HEAD")
    many = PAIRS if given.get("trials") is None and not given.get("quick") else given.get("trials")
    return complete(dict(given, trials=many))


def measure_pair(given, progress=lambda text: None):
    """Measure two models in turns and return the record, schema edgesynth.pair-record/1; see `evaluate_pair`.

    given: as for `measure.measure`, with "base", the path of the model that "model" is held against.
    """
    request = complete_pair(given)
    requests = {side: measure.prepare(dict(request, model=request[name]))
                for side, name in ((BASE, "base"), (HEAD, "model"))}
    used = sorted({requests[side]["runner"] for side in SIDES})
    if len(used) > 1:
        raise UserError("the two models would run on {}: give both as ONNX files or both as engines, or name one with "
                        "--runner".format(" and ".join(used)))
    words = [os.path.basename(requests[side]["model"]) for side in SIDES]
    with measure.board_held(requests[HEAD], "the comparison of {} and {}".format(*words), progress):
        return _measure_pair(requests, progress)


def _measure_pair(requests, progress):
    """The measurement under settings that stay."""
    head = requests[HEAD]
    record: dict = {"schema": SCHEMA, "created": evaluate.now_utc(), "requests": requests, "models": {}, "trials": [],
                    "order": order(head["trials"]), "power": None, "layers": dict.fromkeys(SIDES)}
    for side in SIDES:
        model = requests[side]["model"]
        record["models"][side] = evaluate.describe_model(model, sha256_file(model))
        if head["runner"] in runners.NEED_ENGINE and runners.is_onnx(model):
            requests[side]["engine"] = engines.build(requests[side], _named(side, progress))["engine"]
    measure.run_trials(record, [(requests[side], _named(side, progress)) for side in record["order"]], progress)
    if head["layers"]:
        for side in SIDES:
            record["layers"][side] = trials.profile_layers(requests[side], _named(side, progress))
    return record


def _named(side, progress):
    return lambda text: progress("{}: {}".format(side, text))


def split(record):
    """{"base", "head"}: a record of each side as a single measurement would have made it."""
    return {side: {"created": record["created"], "request": record["requests"][side], "preflight": record["preflight"],
                   "model": record["models"][side], "power": record["power"], "layers": record["layers"][side],
                   "trials": [trial for trial, of in zip(record["trials"], record["order"]) if of == side]}
            for side in SIDES}


def evaluate_pair(record):
    """{"base", "head"}: the result of each side (see `evaluate.evaluate`). UserError where the record is damaged."""
    try:
        if len(record["order"]) != len(record["trials"]) or sorted(set(record["order"])) != sorted(SIDES):
            raise ValueError("the order does not fit the trials")
        sides = split(record)
        if len(sides[BASE]["trials"]) != len(sides[HEAD]["trials"]):
            raise ValueError("the sides have different numbers of trials")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError("the record is damaged ({}): measure again".format(error))
    return {side: evaluate.replay(sides[side]) for side in SIDES}
