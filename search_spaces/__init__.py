"""The spaces that come with manas, found through the entry points `manas.spaces` as a user's spaces are."""
