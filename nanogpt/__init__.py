"""nanogpt: train a GPT on your own text, and understand what happened.

Start reading at `lecture.py` (the lecture's program), then `model.py` (the same model, fast) and `train.py` (the loop).
"""

__version__ = "0.1.0"
