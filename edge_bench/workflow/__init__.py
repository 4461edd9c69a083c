"""The files that put the energy gate into a repository's CI: a workflow, and the script that it calls."""
