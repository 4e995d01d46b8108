"""From a file or the clipboard to a checked text on disk: encoding, repairs, report, prepare, store, builtin.

A stored text is a `Corpus`, found by the hash of its content. `add`, `load` and `find` return one.
No torch here, so reading a text costs a moment.
"""

from .builtin import BUILTINS, builtin, find, reference
from .encoding import ENCODINGS
from .prepare import Prepared, max_bytes, prepare, read_text
from .repairs import REPAIRS, Repaired
from .report import Report, passes, report
from .store import (
    BUILT_IN,
    ID,
    Corpus,
    add,
    add_files,
    delete,
    id_of,
    listed,
    load,
    missing,
    rename,
    size_on_disk,
)

__all__ = [
    "BUILTINS", "BUILT_IN", "ENCODINGS", "ID", "REPAIRS", "Corpus", "Prepared", "Repaired", "Report", "add",
    "add_files", "builtin", "delete", "find", "id_of", "listed", "load", "max_bytes", "missing", "passes", "prepare",
    "read_text", "reference", "rename", "report", "size_on_disk",
]  # fmt: skip
