(line) => {
  // The title of the browser tab, "62% · val 1.71 · nanogpt" while a run trains. The line above the tabs brings it.
  document.title = [...((line || {}).title || []), "nanogpt"].join(" · ");
}
