"""Data sets: what is shipped, what is read from a user's folder, and a user's own."""
