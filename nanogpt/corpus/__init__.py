"""Read, clean up, check and store the texts that models are trained on, and provide the built-in ones.

A stored text is a `Corpus`, identified by the hash of its content. `add` does everything in one call,
and `adding` in steps; `load` and `find` return a text that is already stored. Nothing here imports torch, so reading a
text starts at once.
"""

from .builtin import BUILTINS, DOWNLOADED, find, reference
from .cutting import WHOLE
from .encoding import ENCODINGS
from .fields import fields_in, has_fields
from .large import finished
from .reading import Reading, Source, check, max_bytes, read, read_start, size_of
from .repairs import REPAIRS, Repaired
from .report import Report
from .store import BUILT_IN, ID, Corpus, delete, id_of, listed, load, missing, rename, size_on_disk, title_of
from .storing import add, adding

__all__ = [
    "BUILTINS", "BUILT_IN", "DOWNLOADED", "ENCODINGS", "ID", "REPAIRS", "WHOLE", "Corpus", "Reading", "Repaired",
    "Report", "Source", "add", "adding", "check", "delete", "fields_in", "find", "finished", "has_fields", "id_of",
    "listed", "load", "max_bytes", "missing", "read", "read_start", "reference", "rename", "size_of", "size_on_disk",
    "title_of",
]  # fmt: skip
