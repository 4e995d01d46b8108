"""What every stage of the ladder needs around its model: a text that is long enough, and lines that show it train.

lecture.py has stages 1 to 7, rungs.py has stages 8 to 18.
"""

from .config import NanoGPTError
from .holdout import train_length


def check_length(text, stage):
    """Raise NanoGPTError if the last tenth of the text, kept for validation, holds no window of the stage."""
    needed = 10 * stage.block_size + 1
    if len(text) - train_length(len(text)) <= stage.block_size:
        raise NanoGPTError(
            f"The text has {len(text):,} characters; stage {stage.number} needs {needed:,} or more, "
            f"so that the tenth kept for validation holds a window of {stage.block_size}."
        )


def print_event(event, name, compare=""):
    """Print one line per evaluation: before the first the stage's name, after the last what it took, and a sample."""
    if event["step"] == 0:
        print(f"stage {event['stage']}: {name}\n{'step':>7}{'train':>9}{'val':>9}", flush=True)
    print(f"{event['step']:7,}{event['train_loss']:9.4f}{event['val_loss']:9.4f}", flush=True)
    if "sample" in event:
        print(f"{event['parameters']:,} parameters, {event['seconds']:.0f} seconds;", end=" ")
        print(f"{compare}. It writes:\n{event['sample']}\n", flush=True)
