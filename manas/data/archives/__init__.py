"""The layouts of data sets on disk, read into one index of scenes.

`read_archive` is the way in. A layout is a row of `manas.data.archives.layouts.LAYOUTS`: how it is recognised,
and which of its files is which part of which scene; what is common to all is done once: pairing
(`pairing`), sizes (`checks`), what is known of the published sets (`published`, `fingerprints`).
"""

from manas.data.archives.fingerprints import Fingerprint, fingerprint
from manas.data.archives.index import Archive, Picture, Problem, Scene
from manas.data.archives.reading import find_archives, inspect_archive, read_archive

__all__ = [
    "Archive",
    "Fingerprint",
    "Picture",
    "Problem",
    "Scene",
    "find_archives",
    "fingerprint",
    "inspect_archive",
    "read_archive",
]
