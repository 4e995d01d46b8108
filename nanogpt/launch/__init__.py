"""From settings to a running trainer.

`visitors` decides what each visitor may see and start; the page reaches runs only through it. `prepare` resolves the
preset, checks the settings and writes the run folder; `plan` estimates its time, from what `measured` remembers of this
machine; `sizes` lists the models for a time budget on a CPU, `gpu_plan` those on a GPU. `place` chooses where the run
trains: `local` starts a process on this machine (`trainer`, with a `rank` for each further process of the run), `zero`
uses a ZeroGPU Space. `expiry` deletes what visitors no longer use, `room` shares the disk among them, and `waiting` the
queue. `serving` generates text for all of them. `counting` computes the baselines of texts in the background.
"""

__all__ = [
    "counting", "expiry", "gpu_plan", "local", "measured", "place", "plan", "prepare", "rank", "room",
    "serving", "sizes", "trainer", "visitors", "waiting", "zero",
]  # fmt: skip
