"""A Space with a model inside: this program, which also trains there, or one page that only writes.

python -m nanogpt deploy NAME user/space
python -m nanogpt deploy NAME user/space --static
"""

from __future__ import annotations

import json

from huggingface_hub import SpaceCardData
from huggingface_hub.repocard import RepoCard

from ..config import NanoGPTError
from ..disk import PROJECT
from ..formats import read_config
from ..runs import Run
from ..tokenizer import load_tokenizer, unit
from . import page_export
from .card import checked_license, code, signed
from .hub import Pushed, Tell, model_files, publish, repository, signed_in

FILES = ("app.py", "pre-requirements.txt", "requirements.txt", "LICENSE")  # of the project, beside the package
SUFFIXES = {".py", ".js", ".css", ".html", ".txt"}  # of the package's files; what tools make of them stays here
FREE = "zero-a10g"  # what the Hub calls ZeroGPU


def offered(run: Run, space: str, static: bool = False, license: str | None = None) -> dict[str, bytes]:
    """Exactly what would be sent: content by name. Of the run only what a push would send."""
    public = model_files(run)
    checked_license(license)
    if static:
        page = page_export.html(run).encode()
        return {
            "README.md": static_readme(run, space, license).encode(),
            "index.html": page,
            "run.json": public["run.json"],
        }
    if missing := [name for name in FILES if not (PROJECT / name).is_file()]:
        raise NanoGPTError(
            f"{missing[0]} is not here: a Space is made from the project's own folder, not from an installed package. "
            "Get the project, or make a static Space, which needs no more than the run."
        )
    public["run.json"] = json.dumps({**json.loads(public["run.json"]), "public": True}, indent=1).encode()
    files = {"README.md": readme(run, space).encode()}
    files |= {name: (PROJECT / name).read_bytes() for name in FILES}
    for path in sorted((PROJECT / "nanogpt").rglob("*")):
        if path.suffix in SUFFIXES and path.is_file():
            files[path.relative_to(PROJECT).as_posix()] = path.read_bytes()
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


def readme(run: Run, space: str) -> str:
    """The project's own front matter, under another title, and what is inside."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    given = RepoCard(text).data.to_dict() if text.startswith("---\n") else {}
    front = {**given, "title": title(space), "sdk": "gradio", "app_file": "app.py", "tags": ["nanogpt"]}
    return signed(f"---\n{SpaceCardData(**front)}\n---\n{about(run, space)} Train your own under **Train**.\n")


def static_readme(run: Run, space: str, license: str | None) -> str:
    front = dict(title=title(space), emoji="🖋️", colorFrom="blue", colorTo="gray", sdk="static", license=license)
    return signed(
        f"---\n{SpaceCardData(**front, tags=['nanogpt'])}\n---\n{about(run, space)} It runs in your browser; nothing "
        "you type leaves it.\n"
    )


def about(run: Run, space: str) -> str:
    config, text, one = read_config(run.folder), run.settings()["corpus"], unit(load_tokenizer(run.folder))
    return (
        f"# {title(space)}\n\nWrite with a GPT of {config.n_layer} layers that was trained, {one} by {one}, on "
        f"{code(text['name'])}."
    )


def title(space: str) -> str:
    return space.split("/")[-1]
