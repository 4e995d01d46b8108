"""Explanations of a model and its loss, as plain data that the page or a model card can show.

`baselines` computes the loss of simple character counts on the same text. Import the module you need; none of them
imports the page.
"""

__all__ = ["baselines"]
