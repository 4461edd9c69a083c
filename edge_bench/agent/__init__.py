"""What runs on the board: Python 3.6 and standard library only, packed into one zipapp with what it imports."""
