"""Explanations of a model and its loss, as plain data that the page or a model card can show.

`baselines` computes what counting models and compressors reach on the same text
Import the module you need; none of them imports the page.
"""

__all__ = ["adaptive", "baselines"]
