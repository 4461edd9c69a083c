"""Puts this folder, with the helpers of the tests below it, on the path of all of them."""
