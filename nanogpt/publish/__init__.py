"""Publish a run: to the Hugging Face Hub, as a Space, as a web page that generates offline, or as one Python file.

`hub` pushes and pulls, `card` writes the model card, `deploy` makes a Space, `page_export` and `code_export` write the
files, `run_files` reads what they share, and `pretrained` is `nanogpt.GPT`. Import the module you need.
"""

__all__ = ["card", "code_export", "deploy", "hub", "page_export", "pretrained"]
