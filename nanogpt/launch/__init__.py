"""From settings to a running trainer.

`visitors` decides what each visitor may see and start; the page reaches runs only through it. `prepare` resolves the
preset, checks the settings and writes the run folder; `plan` chooses the model for a time budget, of those that `sizes`
lists for a CPU and `gpu_plan` for a GPU; `pace` says how fast this machine trains, and `measured` remembers it. `place`
chooses where the run trains: `local` starts a process on this machine (`trainer`, with a `rank` for each further
process of the run), `zero` uses a ZeroGPU Space. `expiry` deletes what visitors no longer use, `room` shares the disk
among them, and `waiting` the queue; `rules` puts a server's limits in words. `serving` generates text for all of them.
`counting` computes the baselines of texts in the background.
"""

__all__ = [
    "counting", "expiry", "gpu_plan", "local", "measured", "pace", "place", "plan", "prepare", "rank", "room",
    "rules", "serving", "sizes", "trainer", "visitors", "waiting", "zero",
]  # fmt: skip
