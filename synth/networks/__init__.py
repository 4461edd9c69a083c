"""Networks as data: the graph (V, E), its operators, channels, costs, and the modules built from it."""
