"""Deploy a run as a Space: either this whole app, which can also train there, or a static page that only generates.

python -m nanogpt deploy NAME user/space
python -m nanogpt deploy NAME user/space --static
"""

from __future__ import annotations

import json

from huggingface_hub import SpaceCardData
from huggingface_hub.repocard import RepoCard

from .. import paths
from ..config import NanoGPTError
from ..runs import Run
from ..tokenizer import unit
from . import page_export
from .account import repository, signed_in
from .card import checked_license, code, in_words
from .push import json_line, model_files
from .readme import signed
from .run_files import RunFiles
from .upload import Pushed, Tell, publish

FILES = (
    "app.py",
    "pre-requirements.txt",
    "requirements.txt",
    "LICENSE",
)  # at the root of the project, next to the package
# the package's own files, without what tools leave behind, and without a text of yours that happens to be there
SUFFIXES = {".py", ".typed", ".js", ".css", ".svg"}
EXPORTED = {".html", ".txt", ".wasm", ".wat"}  # in publish/exported only
FREE = "zero-a10g"  # the Hub's name for ZeroGPU


def offered(run: Run, space: str, static: bool = False, license: str | None = None) -> dict[str, bytes]:
    """Return exactly what would be uploaded, {file name: content}.

    Of the run, only what a push would upload, and for the app, which replays them, the samples up to the saved weights.
    """
    source = RunFiles(run)  # read once, so that the files, the page and its README belong to the same step
    public = model_files(source)
    checked_license(license)
    if static:
        return {
            "README.md": static_readme(source, space, license).encode(),
            "index.html": page_export.page(source, int8=page_export.needs_int8(source.config)).encode(),
            "run.json": public["run.json"],
        }
    project = paths.project()
    if project is None:
        raise NanoGPTError(
            "A Space with the whole app is made from the project's folder, and this isn't it. Start nanogpt in the "
            "folder that you cloned, or create a static Space, which needs only the run."
        )
    if source.samples:
        public["samples.jsonl"] = "".join(map(json_line, source.samples)).encode()
    public["run.json"] = json.dumps({**json.loads(public["run.json"]), "public": True}, indent=1).encode()
    text = (project / "README.md").read_text(encoding="utf-8")
    files = {"README.md": readme(source, space, text, license).encode()}
    files |= {name: (project / name).read_bytes() for name in FILES}
    for path in sorted((project / "nanogpt").rglob("*")):
        wanted = SUFFIXES | EXPORTED if path.parent.name == "exported" else SUFFIXES
        if path.suffix in wanted and path.is_file():
            files[path.relative_to(project).as_posix()] = path.read_bytes()
    return {**files, **{f"checkpoints/{run.name}/{name}": content for name, content in public.items()}}


def deploy(
    run: Run, space: str, token: str | None, *, static: bool = False, hardware: str | None = None,
    private: bool = False, license: str | None = None, tell: Tell = lambda sentence: None,
) -> Pushed:  # fmt: skip
    """Create a Space, or update an existing one, in one commit. Raise NanoGPTError if that fails."""
    tell("Signing in to the Hub.")
    api, owner = signed_in(token)
    space = repository(space, owner)
    files = offered(run, space, static, license)
    creation = dict(private=private, space_sdk="static" if static else "gradio")
    creation |= {} if static else dict(space_hardware=hardware or FREE)
    return publish(api, space, "space", files, f"nanogpt with {run.name}", tell, creation)


def readme(source: RunFiles, space: str, text: str, license: str | None) -> str:
    """Return the README of an app Space: the front matter of `text`, the project's README, and what the model is.

    The Space's license is the model's, or none if none is chosen, because the project's is for its code only.
    """
    given = RepoCard(text).data.to_dict() if text.startswith("---\n") else {}
    front = {**given, "title": title(space), "sdk": "gradio", "app_file": "app.py", "tags": ["nanogpt"]}
    return signed(
        f"---\n{SpaceCardData(**{**front, 'license': license})}\n---\n{about(source, space)} To train your own, open "
        f"the **Train** tab.\n\n## License\n\nOf the model: {in_words(license)}\n\nOf the app: MIT, see LICENSE.\n"
    )


def static_readme(source: RunFiles, space: str, license: str | None) -> str:
    """Return the README of a static Space."""
    front = dict(title=title(space), emoji="🖋️", colorFrom="blue", colorTo="gray", sdk="static", license=license)
    return signed(
        f"---\n{SpaceCardData(**front, tags=['nanogpt'])}\n---\n{about(source, space)} It runs in your browser, "
        "and nothing you type leaves your device.\n"
    )


def about(source: RunFiles, space: str) -> str:
    """Return the title and a sentence on the model."""
    text, one = source.settings["corpus"], unit(source.tokenizer)
    return (
        f"# {title(space)}\n\nGenerate text with a small {one}-level GPT, {source.config.n_layer} layers deep, trained "
        f"from scratch on {code(text['name'])}."
    )


def title(space: str) -> str:
    """Return the name of a Space without its owner."""
    return space.split("/")[-1]
