"""What a model has learned, and what its loss means, as plain data that a page or a card can draw.

`baselines` is what counting characters and pairs of characters would reach on the same text.
Import the module of a view; none of them imports the page.
"""

__all__ = ["baselines"]
