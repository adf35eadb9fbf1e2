"""Presets: each YAML file here is a space by its stem, found through the entry points `manas.presets`."""
