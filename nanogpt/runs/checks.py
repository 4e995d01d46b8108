"""Check that an imported folder is a valid run: that every file can be read and holds what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .. import corpus, limits
from ..config import NanoGPTError, TrainConfig, knobs
from ..disk import checked, from_json, opened, read
from ..formats import check_header, load_model, read_config
from ..tokenizer import load_tokenizer
from .about import check_format
from .history import is_sample
from .logs import COLUMNS
from .rows import is_number

if TYPE_CHECKING:  # torch is imported only when weights are checked
    from ..model import GPT

TO_CONTINUE = "last.safetensors"
LAST_WORDS = ("started", "finished", "stopped", "failed")  # events that Run.status derives a state from
# In metrics.jsonl or samples.jsonl of an import: those of a run that is evaluated at each of 200,000 steps. It is kept
# in memory while it is in view, and each row and value takes much more there than in the file.
MOST_ROWS, MOST_VALUES = 200_000, 3_000_000
LONGEST_ROW = 50_000  # bytes: ten times those of a sample of 300 characters, however they are written in JSON


def check_folder(folder: Path) -> dict[str, Any]:
    """Return the settings in the folder's run.json. Raise NanoGPTError, naming the file, if any file is not valid."""
    settings = check_facts(folder)
    model = _model(folder)
    if (folder / TO_CONTINUE).exists():
        _check_save(folder / TO_CONTINUE, model)
    return settings


def check_facts(folder: Path) -> dict[str, Any]:
    """Do what `check_folder` does, but for the weights and the checkpoint, which a run lacks until its first save."""
    for path in folder.glob("*.json"):
        if path.name != "tokenizer.json":  # which may be large, and is checked with the model
            read_object(path)  # the libraries that read these files later have poor error messages
    settings = _settings(folder / "run.json")
    _check_rows(folder / "metrics.jsonl", _is_metric)
    _check_rows(folder / "samples.jsonl", _is_sample)
    return settings


def check_lengths(folder: Path) -> None:
    """Raise NanoGPTError if what was logged would take far more memory than that of any real run. Parse nothing.

    No string in a row is longer than the row, so this also limits samples and messages, of which a list of runs has one
    for each.
    """
    for path in (folder / "metrics.jsonl", folder / "samples.jsonl"):
        data = read(path) if path.exists() else b""
        rows = data.count(b"\n") + data.count(b"\r")
        values = sum(map(data.count, (b",", b"[", b"{")))
        if rows > MOST_ROWS or values > MOST_VALUES:
            raise NanoGPTError(
                f"{path.name} is too long: at most {MOST_ROWS:,} rows and {MOST_VALUES:,} values are allowed. "
                "Nothing was imported."
            )
        if max(map(len, data.splitlines()), default=0) > LONGEST_ROW:
            raise NanoGPTError(f"{path.name} has a row of more than {LONGEST_ROW:,} bytes. Nothing was imported.")


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raise NanoGPTError if it holds anything else, or is nested too deeply."""
    try:
        found = from_json(read(path))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NanoGPTError(f"{path.name} cannot be read. Nothing was imported.")
    return found


def _settings(path: Path) -> dict[str, Any]:
    settings = read_object(path)
    check_format("This run", settings)
    about = settings.get("corpus")
    text: dict[str, Any] = about if isinstance(about, dict) else {}
    strings = [settings.get("name"), settings.get("created"), settings.get("preset"), text.get("id"), text.get("name")]
    right = isinstance(settings.get("train"), dict) and all(isinstance(s, str) and len(s) <= 200 for s in strings)
    if not (right and corpus.ID.fullmatch(text["id"]) and _is_usual(text.get("characters")) and text["characters"] > 0):
        raise NanoGPTError("run.json lacks settings that every run has. Nothing was imported.")
    TrainConfig.of(settings["train"])
    return settings


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 1000


def _is_usual(value: Any) -> bool:
    """Return True for a number that may occur in a run."""
    return is_number(value) and abs(value) < 1e18  # False for NaN


def _or_none(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or right(value)


ENTRIES: dict[str, Any] = {  # of run.json: what tells a usual value, or the entries of an object
    **dict.fromkeys(("name", "created", "preset"), _is_short),
    **dict.fromkeys(("parent", "owner", "plan"), _or_none(_is_short)),
    **dict.fromkeys(("public", "checkpoint"), lambda value: isinstance(value, bool)),
    "format": _is_usual, "planning": _is_usual, "promise": _or_none(_is_usual),
    "costs": dict.fromkeys(("sample", "save"), _is_usual),
    "versions": dict.fromkeys(("nanogpt", "torch", "python", "system"), _is_short),
    "pulled": dict.fromkeys(("repo", "commit"), _is_short),
    "corpus": dict(id=_is_short, name=_is_short, sha256=_or_none(_is_short), characters=_is_usual),
    "train": dict.fromkeys((one.name for one in knobs(TrainConfig)), lambda one: _is_short(one) or _is_usual(one)),
}  # fmt: skip


def known_part(settings: Mapping[str, Any], entries: Mapping[str, Any] = ENTRIES) -> dict[str, Any]:
    """Return the entries of another machine's run.json that this version knows, if their values are usual ones."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        right = entries.get(key)
        if isinstance(right, Mapping):
            found |= {key: known_part(value, right)} if isinstance(value, Mapping) else {}
        elif right and right(value):
            found[key] = value
    return found


def _model(folder: Path) -> GPT:
    import torch

    from ..model import count_parameters

    config = read_config(folder)
    if load_tokenizer(folder).vocab_size != config.vocab_size:
        raise NanoGPTError("The tokenizer does not match the model's vocab_size. Nothing was imported.")
    limits.check_model(config, count_parameters(config))
    model = load_model(folder, config=config)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values()):
        raise NanoGPTError("The weights contain NaN or infinity. Nothing was imported.")
    return model


def _check_rows(path: Path, right: Callable[[dict], bool]) -> None:
    """Raise NanoGPTError unless all rows are `right` and the last event, other than a note, is a known one."""
    last = None
    for row in _rows(path):
        if not right(row):
            raise NanoGPTError(f"{path.name} contains invalid lines. Nothing was imported.")
        event = row.get("event", "note")
        last = event if event != "note" else last
    if last is not None and last not in LAST_WORDS:
        raise NanoGPTError(f"{path.name} has no final event. Nothing was imported.")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows one by one, so that they aren't all in memory. Raise NanoGPTError if one can't be read."""
    for line in read(path).splitlines() if path.exists() else []:
        try:
            row = from_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise NanoGPTError(f"{path.name} cannot be read. Nothing was imported.")
        yield row


def _is_metric(row: dict) -> bool:
    if not all(_is_usual(row[key]) for key in COLUMNS if key in row and key != "grad_norm"):  # which may be infinite
        return False
    if "event" in row:
        return _is_event(row)
    return all(key in row for key in ("step", "seconds", "tokens")) and row["step"] >= 0


def _is_event(row: dict) -> bool:
    texts = [row["event"], row.get("message", ""), row.get("device") if row["event"] == "started" else ""]
    numbers = [row[key] for key in ("best_val_loss", "last_val_loss", "val_characters") if key in row]
    return all(isinstance(text, str) for text in texts) and all(map(_is_usual, numbers))


def _is_sample(row: dict) -> bool:
    return is_sample(row) and _is_usual(row["step"])


def _check_save(path: Path, model: GPT) -> None:
    """Raise NanoGPTError unless last.safetensors is a checkpoint of this model. Its large tensors are not read."""
    from .checkpoint import check_random, progress_in

    expected = {f"model.{name}": list(tensor.shape) for name, tensor in model.state_dict().items()}
    with opened(path) as start:
        check_header(start.read(8), path.name)
    try:
        with safe_open(checked(path), "pt") as file:
            progress = progress_in(file.metadata() or {}, "This run")
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys() if name.startswith("model.")}  # noqa: SIM118
            for name in ("random.torch", "random.batches"):
                check_random(file.get_slice(name).get_shape(), partial(file.get_tensor, name))
        right = shapes == expected and progress.step >= 0
    except NanoGPTError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError):
        right = False
    if not right:
        raise NanoGPTError(f"{path.name} is not a checkpoint of this model. Nothing was imported.")
