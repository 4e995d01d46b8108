"""A Space with a model inside: this program, which also trains there, or one page that only writes.

python -m nanogpt deploy NAME user/space
python -m nanogpt deploy NAME user/space --static
"""

from __future__ import annotations

import json

from huggingface_hub import SpaceCardData
from huggingface_hub.repocard import RepoCard

from ..config import NanoGPTError
from ..paths import CHECKOUT
from ..runs import Run
from ..tokenizer import unit
from . import page_export
from .card import checked_license, code, signed
from .hub import Pushed, Tell, model_files, publish, repository, signed_in
from .run_files import RunFiles

FILES = ("app.py", "pre-requirements.txt", "requirements.txt", "LICENSE")  # of the project, beside the package
SUFFIXES = {".py", ".typed", ".js", ".css", ".html", ".txt"}  # of the package's files; what tools leave there stays
FREE = "zero-a10g"  # what the Hub calls ZeroGPU


def offered(run: Run, space: str, static: bool = False, license: str | None = None) -> dict[str, bytes]:
    """Exactly what would be sent: content by name. Of the run only what a push would send."""
    source = RunFiles(run)  # read once: the files that are sent, the page and the words about it are of one moment
    public = model_files(source)
    checked_license(license)
    if static:
        return {
            "README.md": static_readme(source, space, license).encode(),
            "index.html": page_export.page(source).encode(),
            "run.json": public["run.json"],
        }
    if CHECKOUT is None:
        raise NanoGPTError(
            "A Space is made from the project's own folder, not from an installed package. Download the project and "
            "deploy from there, or make a static Space, which needs only the run."
        )
    public["run.json"] = json.dumps({**json.loads(public["run.json"]), "public": True}, indent=1).encode()
    files = {"README.md": readme(source, space, (CHECKOUT / "README.md").read_text(encoding="utf-8")).encode()}
    files |= {name: (CHECKOUT / name).read_bytes() for name in FILES}
    for path in sorted((CHECKOUT / "nanogpt").rglob("*")):
        if path.suffix in SUFFIXES and path.is_file():
            files[path.relative_to(CHECKOUT).as_posix()] = path.read_bytes()
    return {**files, **{f"checkpoints/{run.name}/{name}": content for name, content in public.items()}}


def deploy(
    run: Run, space: str, token: str | None, *, static: bool = False, hardware: str | None = None,
    private: bool = False, license: str | None = None, tell: Tell = lambda sentence: None,
) -> Pushed:  # fmt: skip
    """Create the Space, or bring one made before up to date, in one commit. NanoGPTError where that cannot be done."""
    tell("Asking the Hub who you are.")
    api, owner = signed_in(token)
    space = repository(space, owner)
    files = offered(run, space, static, license)
    creation = dict(private=private, space_sdk="static" if static else "gradio")
    creation |= {} if static else dict(space_hardware=hardware or FREE)
    return publish(api, space, "space", files, f"nanogpt with {run.name}", tell, creation)


def readme(source: RunFiles, space: str, text: str) -> str:
    """Return the README of a Space: the front matter of `text`, the project's own, retitled, and what is inside."""
    given = RepoCard(text).data.to_dict() if text.startswith("---\n") else {}
    front = {**given, "title": title(space), "sdk": "gradio", "app_file": "app.py", "tags": ["nanogpt"]}
    return signed(f"---\n{SpaceCardData(**front)}\n---\n{about(source, space)} Train your own under **Train**.\n")


def static_readme(source: RunFiles, space: str, license: str | None) -> str:
    front = dict(title=title(space), emoji="🖋️", colorFrom="blue", colorTo="gray", sdk="static", license=license)
    return signed(
        f"---\n{SpaceCardData(**front, tags=['nanogpt'])}\n---\n{about(source, space)} It runs in your browser; "
        "nothing you type leaves it.\n"
    )


def about(source: RunFiles, space: str) -> str:
    text, one = source.settings["corpus"], unit(source.tokenizer)
    return (
        f"# {title(space)}\n\nWrite with a GPT of {source.config.n_layer} layers that was trained, {one} by {one}, on "
        f"{code(text['name'])}."
    )


def title(space: str) -> str:
    return space.split("/")[-1]
