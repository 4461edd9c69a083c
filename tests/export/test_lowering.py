"""Random networks of opsets 18 to 20, lowered to what each board reads: the same answers, to the last bit."""

import numpy as np
import onnx
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.dialect import dialect_of
from export.lint import lint

TX2, ORIN, ORIN_LATEST = dialect_of("tx2"), dialect_of("orin-nx"), dialect_of("orin-nx", "7.2")


class Writer:
    """Writes one random network from x (N, 4, 8, 8), of forms that later opsets have and earlier ones have not."""

    def __init__(self, opset, batch):
        self.opset, self.nodes, self.constants, self.exact = opset, [], {}, True
        self.tensor, self.shape, self.batch = "x", [batch, 4, 8, 8], batch

    def add(self, kind, *inputs, outputs=1, **attributes):
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, [*inputs], names, f"n{len(self.nodes)}", **attributes))
        return names

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def plain(self, kind):
        (self.tensor,) = self.add(kind, self.tensor)

    def defined(self, kind):
        if kind == "LayerNormalization":
            scale = self.constant(np.linspace(0.5, 2, self.shape[3], dtype=np.float32))
            (self.tensor,) = self.add(kind, self.tensor, scale)
        elif kind != "Gelu" or self.opset >= 20:
            (self.tensor,) = self.add(kind, self.tensor)
        self.exact = False

    def reduce(self, kind, axes):
        (self.tensor,) = self.add(kind, self.tensor, self.constant(np.int64(axes)), keepdims=1, noop_with_empty_axes=0)
        self.shape = [1 if i in axes else size for i, size in enumerate(self.shape)]

    def resize(self, mode):
        scales = self.constant(np.float32([1, 1, 2, 2]))
        words = {"antialias": 0, "keep_aspect_ratio_policy": "stretch", "mode": mode}
        (self.tensor,) = self.add("Resize", self.tensor, "", scales, **words)
        self.shape[2:] = [2 * self.shape[2], 2 * self.shape[3]]

    def split(self):
        if self.shape[1] % 2 == 0:
            parts = self.add("Split", self.tensor, outputs=2, axis=1, num_outputs=2)
            (self.tensor,) = self.add("Concat", *parts[::-1], axis=1)

    def pad(self, mode):
        room = 0 if mode == "reflect" and min(self.shape[2:]) < 2 else 1
        pads, axes = self.constant(np.int64([room, 0, 0, room])), self.constant(np.int64([2, 3]))
        (self.tensor,) = self.add("Pad", self.tensor, pads, "", axes, mode=mode)
        self.shape[2:] = [self.shape[2] + room, self.shape[3] + room]

    def flatten_and_back(self):
        """The batch by a part of a shape, as torch's newer exporter asks for it."""
        (batch,) = self.add("Shape", self.tensor, start=0, end=1)
        flat, back = self.constant(np.int64([int(np.prod(self.shape[1:]))])), self.constant(np.int64(self.shape[1:]))
        for rest in (flat, back):
            (shape,) = self.add("Concat", batch, rest, axis=0)
            (self.tensor,) = self.add("Reshape", self.tensor, shape, allowzero=1)

    def limit(self):
        (self.tensor,) = self.add("Max", self.tensor, self.constant(np.float32(-0.5)))

    def model(self):
        (end,) = self.add("Identity", self.tensor)
        ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [self.batch, 4, 8, 8]),
                 helper.make_tensor_value_info(end, TensorProto.FLOAT, [self.batch, None, None, None])]  # fmt: skip
        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "g", ports[:1], ports[1:], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


STEPS = st.one_of(
    st.tuples(st.just("plain"), st.sampled_from(["Relu", "Neg", "Abs", "Sigmoid", "Identity"])),
    st.tuples(st.just("defined"), st.sampled_from(["HardSwish", "Mish", "Gelu", "LayerNormalization", "Sign"])),
    st.tuples(st.just("reduce"), st.sampled_from(["ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"]),
              st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("resize"), st.sampled_from(["nearest", "linear"])),
    st.tuples(st.just("split")),
    st.tuples(st.just("pad"), st.sampled_from(["constant", "edge", "reflect"])),
    st.tuples(st.just("flatten_and_back")),
    st.tuples(st.just("limit")),
)  # fmt: skip


def answers(model, images):
    """Without the runtime's own fusions, which differ with what it sees as constant."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"x": images})[0]


@settings(max_examples=80)
@given(
    st.integers(18, 20),
    st.sampled_from([2, "batch"]),
    st.lists(STEPS, min_size=1, max_size=6),
    st.sampled_from([TX2, ORIN, ORIN_LATEST]),
)
def test_lowering_changes_no_answer(opset, batch, steps, dialect):
    writer = Writer(opset, batch)
    for name, *arguments in steps:
        getattr(writer, name)(*arguments)
    before = writer.model()
    found = lint(before, dialect)
    assert found.errors == [], found.errors
    after = found.model
    assert after.opset_import[0].version <= dialect.opset and after.ir_version <= max(dialect.ir, 7)
    onnx.checker.check_model(after, full_check=True)
    for count in (2,) if batch == 2 else (1, 3):
        images = np.random.default_rng(count).standard_normal((count, 4, 8, 8)).astype(np.float32)
        want, got = answers(before, images), answers(after, images)
        if writer.exact:
            assert np.array_equal(want, got)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert lint(after, dialect).errors == []
