"""The report of a run as one HTML file; `page` has what others call."""
