"""Boards in the loop: what is worth measuring, what was measured, and what it teaches the cost model."""
