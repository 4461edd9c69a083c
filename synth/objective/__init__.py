"""What is wanted of a network: the performance U and the requirements 1r."""
