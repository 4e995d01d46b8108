"""From settings to a running trainer.

`visitors` decides what each visitor may see and start; the page calls only its `start` and `go_on`. `prepare` resolves
the preset, checks the settings and writes the run folder; `plan` estimates time and memory. `place` chooses where the
run trains: `local` starts a process on this machine (`trainer`), `zero` uses a ZeroGPU Space.
"""

__all__ = ["local", "place", "plan", "prepare", "trainer", "visitors", "zero"]
