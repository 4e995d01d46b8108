"""Train a run on Hugging Face Jobs: it goes there, the run folder here follows it, and it comes back.

`offer` knows the hardware and its prices, `parcel` packs what is uploaded, `start` starts and finds jobs again, and
`follow` is the process on this machine: read it from top to bottom. It reads the job's `output`, and passes on Stop
(`stopping`); `progress` notes how far it has come, and `leftovers` deletes what was uploaded. `remote` is the program
inside the job. `feed` carries the growing files from there to here, `back` checks what comes back, and `refusals` words
the errors. Only this package talks to Jobs.
"""

__all__ = ["follow", "offer", "start"]
