"""Property tests draw the same examples in every run and have no clock to beat: a failure is a fault, no weather."""

from hypothesis import settings

settings.register_profile("edgesynth", derandomize=True, deadline=None, database=None, print_blob=False)
settings.load_profile("edgesynth")
