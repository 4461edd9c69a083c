"""The generator, the inquisitor and their cycle, on any space: they know sites, decisions and costs, no networks."""
