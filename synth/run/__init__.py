"""One run from the order to its summary: φ is prepared, a generator learns, FermiNets are finished."""
