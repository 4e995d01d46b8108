"""Explanations of a model and its loss, as plain data that the page, the command line or a model card can show.

`opened` opens a run for them, and `cache` keeps what takes long in its folder. `characters` colors a text by what the
model expected, `seen` asks the training text the same, `ablation` switches parts of the model off, `attention` says
where its heads look, `copies` finds what a text repeats of the training text, and `baselines` computes the loss of
simple character counts. Import the module you need; none of them imports the page.
"""

__all__ = ["ablation", "attention", "baselines", "cache", "characters", "copies", "opened", "seen"]
