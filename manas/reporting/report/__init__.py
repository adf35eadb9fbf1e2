"""The report of a run as one HTML file; other packages call `page` alone."""
