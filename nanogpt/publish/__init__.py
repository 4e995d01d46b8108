"""Publish a run: on the Hugging Face Hub, as a Space, as a web page, as one Python file, or as an animation.

`hub` pushes, `pull` pulls, `card` writes the model card, `readme` keeps what its owner edited, `deploy` makes a Space,
and `page_export`, `code_export` and `gif` make files. `hub_client` and `hub_errors` serve all that talks to the Hub,
`run_files` reads what they share, and `pretrained` is `nanogpt.GPT`. Import the module you need.
"""

__all__ = [
    "card", "code_export", "deploy", "gif", "hub", "hub_client", "hub_errors", "page_export", "pretrained", "pull",
]  # fmt: skip
