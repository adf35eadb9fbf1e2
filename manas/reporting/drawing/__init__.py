"""The drawing of a genotype as a figure; `figure` has what others call."""
