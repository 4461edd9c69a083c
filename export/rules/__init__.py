"""What each TensorRT misreads or refuses: one function a rule, in the order in which they have to run."""

from __future__ import annotations

from export.rules import definitions, operators, quantisation, values, versions

# Mends come before what only looks: first the graph gets its final operators and opset, then it is judged.
RULES = (
    values.listed_weights,
    versions.inner_functions,
    definitions.rewritten,
    versions.opset,
    versions.ir_version,
    operators.unknown_operators,
    operators.resize,
    operators.pooling,
    operators.padding,
    operators.training,
    operators.constant_inputs,
    operators.control_flow,
    quantisation.integer_bias,
    quantisation.missing_zero_point,
    quantisation.unsigned_weights,
    quantisation.symmetric,
    quantisation.board,
    values.not_finite,
    values.int64,
    values.double,
    values.input_types,
    values.free_sizes,
)
