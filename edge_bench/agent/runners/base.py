"""The interface of a runner: open, infer, synchronise, describe, close."""

from typing import Any

from devices.support.errors import UserError


class Runner(object):
    """Runs one model with fixed input. Times are taken by the caller around `infer` and `synchronise`.

    Subclasses fill `inputs` and `outputs` with {"name", "dtype", "shape"} and keep input and output on the host:
    a latency goes from host input to host output, copies included.
    """

    name = ""
    pipelined = False         # whether inferences overlap
    block_s = 0.5             # length of a block of warm-up
    run_for: Any = None       # a runner that times its own inferences has this method, see onnxruntime
    has_device_clock = False  # whether compute_ms() means something
    version = None
    request: dict = {}
    batch = 1
    inputs: list = []
    outputs: list = []
    feed: dict = {}

    @classmethod
    def open(cls, request):
        """Load the model of the request. UserError for a bad model, CannotMeasure where it cannot run here."""
        raise NotImplementedError

    def infer(self):
        """Start one inference."""
        raise NotImplementedError

    def synchronise(self):
        """Return when the output of the last inference is on the host."""

    def compute_ms(self):
        """Milliseconds that the device spent on the last synchronised inference, by its own events."""
        return None

    def describe(self):
        """{"name", "version", "precision", "batch", "inputs", "outputs", ...}, JSON-ready."""
        raise NotImplementedError

    def layer_times_ms(self):
        """[{"name", "ms"}] of one profiled inference, or None where the runner cannot tell."""
        return None

    def close(self):
        """Free what `open` took."""


def check_batch(requested, declared, sizes, model):
    """The batch to run: `requested` or, when None, the model's own; 1 where the model leaves it open.

    declared: {input: shape, None where dynamic}; sizes: {input: shape} that are known besides, as the user's. The batch
    is the first axis of the inputs that vary in it and of those with the most axes: anchors or a scale beside an image
    have none. UserError where the request disagrees with them, or they with each other.
    """
    shapes = {name: sizes.get(name, shape) for name, shape in declared.items() if shape}
    most = max([len(shape) for shape in shapes.values()] or [0])
    first = [shape[0] for name, shape in shapes.items() if declared[name][0] is None or len(shape) == most]
    fixed = sorted({size for size in first if size is not None})
    told = " and ".join(str(size) for size in fixed)
    if requested is None:
        if len(fixed) > 1:
            raise UserError("{}: its inputs begin with {}: say with --batch how many images an inference takes".format(
                model, told))
        return fixed[0] if fixed else 1
    if fixed and None not in first and requested not in fixed:
        raise UserError("{}: built for batch {}, not {}: export it with that batch or leave --batch out".format(
            model, told, requested))
    return requested


def resolve_shape(name, declared, batch, sizes, model):
    """The shape of one input: `declared` (None where dynamic) with the batch and the user's sizes filled in."""
    if name in sizes:
        given = sizes[name]
        if len(given) != len(declared) or any(d is not None and d != g for d, g in zip(declared, given)):
            raise UserError("{}: input '{}' has shape {}, so --shape {}={} does not fit".format(
                model, name, show_shape(declared), name, "x".join(str(size) for size in given)))
        return list(given)
    shape = [batch if axis == 0 and size is None else size for axis, size in enumerate(declared)]
    if None in shape:
        raise UserError("{}: input '{}' has dynamic axes {}: give its size with --shape {}={}".format(
            model, name, show_shape(declared), name,
            "x".join("?" if size is None else str(size) for size in shape)))
    return shape


def show_shape(shape):
    """A shape as a person reads it, ? where dynamic."""
    return "[{}]".format(", ".join("?" if size is None else str(size) for size in shape))
