"""What every floor stands on: errors, files, readings, the console. Python 3.6 and standard library only,
since the agent takes these modules to the board (the console, which only the host has, is the exception)."""
