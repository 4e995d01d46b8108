"""Shared by all stages of the ladder: the checks of a text, and the printed progress.

Stages 1 to 7 are in lecture.py, stages 8 to 18 in rungs.py.
"""

from . import limits
from .config import NanoGPTError
from .holdout import train_length


def check_length(text, stage):
    """Raise NanoGPTError if the text is too short: its validation set must hold a window of the stage's block size."""
    needed = 10 * stage.block_size + 1
    if len(text) - train_length(len(text)) <= stage.block_size:
        raise NanoGPTError(
            f"The text has only {len(text):,} characters. Stage {stage.number} needs at least {needed:,}, "
            f"so that the validation set (the last 10%) holds a window of {stage.block_size}."
        )


def check_table(vocab_size):
    """Raise NanoGPTError if this server allows no table with a number for each pair of so many characters."""
    most = limits.limit("NANOGPT_MAX_PARAMETERS")
    if most is not None and vocab_size**2 > most:
        raise NanoGPTError(
            f"The bigram model has a number for each pair of characters. With {vocab_size:,} different ones, that is "
            f"{vocab_size**2:,} parameters; this server allows {most:,}. Use nanogpt on your own computer."
        )


def print_event(event, name, compare=""):
    """Print one line per evaluation, with a header before the first, and the cost and a sample after the last."""
    if event["step"] == 0:
        print(f"stage {event['stage']}: {name}\n{'step':>7}{'train':>9}{'val':>9}", flush=True)
    print(f"{event['step']:7,}{event['train_loss']:9.4f}{event['val_loss']:9.4f}", flush=True)
    if "sample" in event:
        print(f"{event['parameters']:,} parameters, {event['seconds']:.0f} seconds;", end=" ")
        print(f"{compare}. Sample:\n{event['sample']}\n", flush=True)
