"""What two compressors need for the validation set, if they keep learning as they read it.

That is an advantage over a model that is trained first and then judged, so their losses are marked as adaptive. Both
compress the training set alone and then with the validation set after it; the difference is what the latter costs.
They read bytes, so a text gets one byte per character if its alphabet isn't too large for that.
"""

from __future__ import annotations

import lzma
import math

import numpy as np

try:
    import pyppmd
except ImportError:  # an installation from before it was required, or a platform without it
    pyppmd = None

ORDER = 6  # characters of context in PPMd, which is best at 5 to 7 on English
BYTES = 256  # characters that fit into one byte each
MEMORY = 64 << 20  # bytes for PPMd's counts; it starts again if they don't suffice
MISSING = "PPMd is missing, because the package pyppmd isn't installed: pip install pyppmd."


def compressors() -> dict[str, bool]:
    """Return {"xz", "ppmd"}, each with whether it can be computed here."""
    return dict(xz=True, ppmd=pyppmd is not None)


def compressed(name: str, train: str, val: str) -> float:
    """Return the nats per character that "xz" or "ppmd" needs for a validation set that follows a training set."""
    size = dict(xz=xz_bytes, ppmd=ppmd_bytes)[name]
    both = as_bytes(train + val)
    before = both[: len(train)] if len(both) == len(train) + len(val) else train.encode("utf-8")
    return (size(both) - size(before)) * 8 * math.log(2) / max(1, len(val))


def as_bytes(text: str) -> bytes:
    """Return a text with one byte per character if it has at most BYTES different ones, else as UTF-8.

    ASCII characters keep their bytes. The others get the free ones in order, from 128 up, because PPMd expects bytes
    below 64 to be something other than letters.
    """
    if text.isascii() or len(alphabet := sorted(set(text))) > BYTES:
        return text.encode("utf-8")
    others = [ord(ch) for ch in alphabet if not ch.isascii()]
    taken = {ord(ch) for ch in alphabet if ch.isascii()}
    table = np.zeros(others[-1] + 1, dtype=np.uint8)  # code point -> byte
    table[:128] = range(128)
    table[others] = [*range(128, BYTES), *(byte for byte in range(128) if byte not in taken)][: len(others)]
    return table[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")].tobytes()


def xz_bytes(data: bytes) -> int:
    """Return the compressed size by xz at its best: preset 9e, with a dictionary just large enough for the text."""
    dictionary = 1 << max(12, (len(data) - 1).bit_length())  # preset 9 has 64 MB, and would need ten times as much
    best = dict(id=lzma.FILTER_LZMA2, preset=9 | lzma.PRESET_EXTREME, dict_size=dictionary)
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=[best]))


def ppmd_bytes(data: bytes) -> int:
    """Return the compressed size by PPMd (Shkarin, 2002; variant H, as in 7-Zip)."""
    return len(pyppmd.compress(data, max_order=ORDER, mem_size=MEMORY, variant="H"))
