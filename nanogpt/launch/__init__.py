"""From settings to a running trainer.

`visitors` decides what each visitor of a public server may see and start; its `start` and `go_on` are the page's one
call. `prepare` resolves the preset, checks everything and writes the run folder, with `plan` for time and memory.
`place` chooses where it trains: `local` is a process on this machine (`trainer`), `zero` a ZeroGPU Space.
"""

__all__ = ["local", "place", "plan", "prepare", "trainer", "visitors", "zero"]
