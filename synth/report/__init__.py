"""A run as a person sees it: the summary as data, the table on the console, the HTML file."""
