"""What the agent's verbs do; each takes the parsed options and imports what it needs when it is called."""
import sys

from edge_bench.agent import spawn
from edge_bench.agent.main import PROTOCOL, dump, request_of, write_json_output


def note(text):
    """A line of progress for a person."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def bench(options):
    """Measure, or recompute from a record, keep the result, and show it."""
    from edge_bench.agent import evaluate, measure, result, store
    if options.replay:
        found = evaluate.evaluate(store.load_record(options.replay))
    else:
        found, record = measure.measure(request_of(options), note)
        note("saved {}".format(store.save(found, record, options.save or store.FOLDER)))
    if options.json:
        write_json_output(options.json, result.to_json_text(found))
    if options.json != "-":
        sys.stdout.write(result.to_text(found) + "\n")


def probe(options):
    """Board, software, mode, clocks, temperatures, load."""
    from edge_bench.agent.preflight import preflight
    state = preflight(options.root)
    if options.json:
        write_json_output(options.json, dump(state))
    if options.json != "-":
        sys.stdout.write(dump(state))


def version(options):
    """The protocol, the Python, and the hash of the zipapp this runs from."""
    import platform

    from devices.support.files import sha256_file
    archive = spawn.archive()
    found = {"protocol": PROTOCOL, "python": platform.python_version(), "sha256": sha256_file(archive) if archive
             else None}
    if options.json:
        write_json_output(options.json, dump(found))
    if options.json != "-":
        sys.stdout.write("edgesynth agent, protocol {protocol}, Python {python}, {0}\n".format(
            str(found["sha256"])[:12] if archive else "installed", **found))


def trial(words):
    from edge_bench.agent import trial as one_trial
    return one_trial.main()


def sample(words):
    from edge_bench.agent import sampler
    return sampler.main(words)
