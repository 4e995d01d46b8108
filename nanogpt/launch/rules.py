"""The rules for visitors of a public server, in words."""

from __future__ import annotations

from .. import corpus, limits
from ..durations import in_words
from ..paths import is_lasting


def terms() -> str:
    """Return the rules for visitors of this server, in a few sentences."""
    rules = ["Other visitors can't see your runs and texts, but the owner of this server can; a cookie identifies you."]
    if hours := limits.limit("NANOGPT_EXPIRE_HOURS"):
        rules.append(f"They are deleted after {hours:,} hours without use, so export what you want to keep.")
    if not is_lasting():
        rules.append("This server forgets everything when it restarts.")
    if limits.training_is_off():
        rules.append("Training is turned off, but you can sample from the models here.")
        return " ".join(rules)
    allowed = [f"{corpus.max_bytes() / 1e6:,.3g} MB of text"]
    if parameters := limits.limit("NANOGPT_MAX_PARAMETERS"):
        allowed.append(f"{parameters / 1e6:,.3g} million parameters")
    if seconds := limits.limit("NANOGPT_MAX_SECONDS"):
        allowed.append(f"{in_words(seconds)} of training at a time")
    if runs := limits.limit("NANOGPT_MAX_RUNS"):
        allowed.append(f"{runs} run{'s' if runs > 1 else ''} at once")
    rules.append(f"Limits: {', '.join(allowed)}.")
    if limits.on_zero_gpu():
        rules.append("Training uses a shared GPU and counts against your daily quota; sampling runs on the CPU.")
    return " ".join(rules)
