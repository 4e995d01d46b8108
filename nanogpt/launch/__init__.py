"""From settings to a running trainer.

`visitors` decides what each visitor may see and start; the page reaches runs only through it. `prepare` resolves
the preset, checks the settings and writes the run folder; `plan` estimates its time and `memory` its memory. `place`
chooses where the run trains: `local` starts a process on this machine (`trainer`), `zero` uses a ZeroGPU Space.
`expiry` deletes what visitors no longer use, and `room` shares the disk among them.
`counting` computes the baselines of texts in the background.
"""

__all__ = ["counting", "expiry", "local", "memory", "place", "plan", "prepare", "room", "trainer", "visitors", "zero"]
