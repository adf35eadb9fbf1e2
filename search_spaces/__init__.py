"""The spaces that come with manas; each is found through the entry points `manas.spaces`, as a user's is."""
