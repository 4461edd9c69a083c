"""What every floor stands on: errors, files, readings, a user's factories. Python 3.6 and standard library only, since
the agent takes these modules to the board (all but the factories, which only the host needs)."""
