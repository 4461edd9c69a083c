"""Floor 4: generative synthesis of efficient networks."""
