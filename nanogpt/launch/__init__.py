"""From settings to a running trainer: each module is one place to train, or a check made before training starts.

`plan` estimates time and memory, `local` starts a process on this machine, `zero` trains on a ZeroGPU Space.
`visitors` decides what each visitor of a public server may see and start.
"""

__all__ = ["local", "plan", "visitors", "zero"]
