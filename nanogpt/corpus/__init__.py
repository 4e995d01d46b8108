"""From a file or the clipboard to a checked text on disk: encoding, repairs, report, store, built-in texts.

A stored text is a `Corpus`, found by the hash of its content. `add` does all of it in one call and returns one; `load`
and `find` return one that is there. No torch here, so reading a text costs a moment.
"""

from .builtin import BUILTINS, find, reference
from .encoding import ENCODINGS
from .reading import Reading, Source, max_bytes, read_text
from .repairs import REPAIRS
from .report import Report
from .store import BUILT_IN, ID, Corpus, add, delete, id_of, listed, load, missing, rename, size_on_disk

__all__ = [
    "BUILTINS", "BUILT_IN", "ENCODINGS", "ID", "REPAIRS", "Corpus", "Reading", "Report", "Source", "add", "delete",
    "find", "id_of", "listed", "load", "max_bytes", "missing", "read_text", "reference", "rename", "size_on_disk",
]  # fmt: skip
