"""The layouts of data sets on disk, read into one index of scenes.

`read_archive` is the way in. A layout is a row of `manas.data.archives.layouts.LAYOUTS`, which says how the
layout is recognised and which part of which scene each of its files is. The steps that all layouts share stand
apart: pairing (`pairing`), sizes (`checks`), and knowledge of the published sets (`published`, `fingerprints`).
"""

from manas.data.archives.fingerprints import Fingerprint, fingerprint
from manas.data.archives.index import Archive, Problem, Scene, StoredImage
from manas.data.archives.reading import find_archives, inspect_archive, read_archive

__all__ = [
    "Archive",
    "Fingerprint",
    "StoredImage",
    "Problem",
    "Scene",
    "find_archives",
    "fingerprint",
    "inspect_archive",
    "read_archive",
]
