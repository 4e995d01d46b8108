"""A run leaves this machine: to the Hub, as a Space, as one page that samples offline, or as one program.

`hub` pushes and pulls, `card` writes the model card, `deploy` makes a Space, `page_export` and `code_export` write
files, `run_files` reads what they share, `pretrained` is `nanogpt.GPT`. Import the module you need.
"""

__all__ = ["card", "code_export", "deploy", "hub", "page_export", "pretrained"]
