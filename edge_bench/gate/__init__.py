"""The gate: what a result, or a change, costs more than it may; baselines, verdicts, and words for CI."""
