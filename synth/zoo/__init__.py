"""Networks that were trained for whoever comes next: DATA/NAME/ with graph, weights and a card each."""
