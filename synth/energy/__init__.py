"""Boards in the loop: what is worth measuring, who measures it, what was measured."""
