"""How a network is trained and judged: recipes, the steps on CPUs and GPUs, many trainings at once."""
