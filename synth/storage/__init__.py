"""What outlives a run: tensors, networks and whole runs on disk, written so that a cut at any moment loses nothing."""
