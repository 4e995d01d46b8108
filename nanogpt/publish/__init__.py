"""Publish a run: on the Hugging Face Hub, as a Space, as a web page, as one Python file, or as an animation.

`account` signs in, `push` pushes, `pull` pulls, and `deploy` makes a Space. `card` writes the model card, `upload`
commits files, and `readme` keeps what was edited there. `page_export`, `code_export` and `gif` make files. `hub_client`
and `hub_errors` serve all that talks to the Hub, `run_files` reads what they share, and `pretrained` is `nanogpt.GPT`.
Import the module you need.
"""

__all__ = [
    "account", "card", "code_export", "deploy", "gif", "hub_client", "hub_errors", "page_export", "pretrained", "pull",
    "push", "upload",
]  # fmt: skip
