"""Results and comparisons as one HTML file; the chart, the page and their style are those of every report."""
