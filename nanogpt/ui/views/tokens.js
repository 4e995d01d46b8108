// Names of tokens: how to show one that can't be seen, and how a screen reader should say it.
const visible = (token) => ({ "\n": "↵", " ": "␣", "\t": "⇥" })[token] || token;
const spoken = (token) => ({ "\n": "line break", " ": "space", "\t": "tab" })[token] || token;
