"""Stimuli, and what the vertices of a network answer to them."""
