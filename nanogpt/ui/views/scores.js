// Your scores in "Beat your model", as this browser keeps them: draw(root, {"run created passage": bits per character, …})
// draws nothing.
//
// It adds scores to those that are stored now, because other browser tabs store theirs, too. Its value is all of them.
function draw(root, data) {
  const STORED = "nanogpt-scores";
  if (!root.__scores) addEventListener("storage", ({ key }) => { if (key === STORED) draw(root, {}); });
  // Two tabs may store at the same time, so what another one has overwritten is added again. In order of the names, or
  // they would never agree; and what is empty is not stored, or it could overwrite what is.
  const all = root.__scores = Object.fromEntries(Object.entries({ ...root.__scores, ...stored(), ...data }).sort());
  const text = JSON.stringify(all);
  try {
    if (text !== "{}" && localStorage.getItem(STORED) !== text) localStorage.setItem(STORED, text);
  } catch { /* then they last as long as the page */ }
  if (JSON.stringify(data) !== text) props.value = all; // draws again

  function stored() {
    let found = null;
    try { found = localStorage.getItem(STORED); } catch { return root.__scores; } // storage is switched off
    try { return Object(JSON.parse(found)); } catch { return {}; } // of an earlier version, which encrypted them
  }
}
