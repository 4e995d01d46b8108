"""Assemble the exported page's WebAssembly from its text form: python tests/assemble.py

Both files are committed, so that an export needs no assembler. A test checks that they match.
"""

from __future__ import annotations

from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "nanogpt/publish/exported/math.wat"
MODULE = SOURCE.with_suffix(".wasm")
HEADER = 8  # bytes before the first section
NAMES = 0  # the kind of section that only debuggers read


def assembled(source: str) -> bytes:
    """Return the module of a text, without its section of names. Raise wasmtime.WasmtimeError if it has an error."""
    from wasmtime import wat2wasm

    module = bytes(wat2wasm(source))
    kept, at = [module[:HEADER]], HEADER
    while at < len(module):
        size, start = number(module, at + 1)
        if module[at] != NAMES:
            kept.append(module[at : start + size])
        at = start + size
    return b"".join(kept)


def number(data: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned number in LEB128. Return it and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def main() -> None:
    MODULE.write_bytes(assembled(SOURCE.read_text(encoding="utf-8")))
    print(f"{MODULE.name}: {MODULE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
