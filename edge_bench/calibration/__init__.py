"""The calibration of a board of one's own: a set of small networks measured there, and the fit to it."""
