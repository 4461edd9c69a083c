"""Floor 2: measuring latency and energy, on this machine and on boards."""
