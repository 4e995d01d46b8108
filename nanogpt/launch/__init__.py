"""From settings to a running trainer.

`visitors` decides what each visitor of a public server may see and start; the page calls its `start` and `go_on`.
`prepare` resolves the preset, checks everything and writes the run folder, using `plan` to estimate time and memory.
`place` chooses where to train: `local` is a process on this machine (`trainer`), `zero` is a ZeroGPU Space.
"""

__all__ = ["local", "place", "plan", "prepare", "trainer", "visitors", "zero"]
