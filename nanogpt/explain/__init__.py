"""Explanations of a model and its loss, as plain data that the page, the command line or a model card can show.

`opened` opens a run for them, and `cache` keeps what takes long in its folder. `characters` colors a text by what the
model expected, `seen` asks the training text the same, `ablation` switches parts of the model off, `copies` finds what
a text repeats of the training text, `baselines` and `adaptive` compute what counting models and compressors reach,
`dynamic` what the model reaches if it goes on learning, and `loss` puts these on one ruler. Import the module you need;
none of them imports the page.
"""

__all__ = ["ablation", "adaptive", "baselines", "cache", "characters", "copies", "dynamic", "loss", "opened", "seen"]
