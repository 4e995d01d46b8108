// A guessing game: draw(root, {before, guessed: [[character, rank], …], left, wrong, tries, last, words, over}).
//
// Type a character to guess it; Enter alone guesses a line break. It triggers `select` with {letter}. `last` shows what
// the model expected for the character before: {right, rank, bars: [{token, p}, …]}.
function draw(root, data) {
  const { area, say } = aloud(root);
  if (!data) return area.replaceChildren();
  const { before = "", guessed = [], left = 0, wrong = [], tries = 3, last = {}, words = "", over = false } = data;
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const spoken = (token) => ({ "\n": "a line break", " ": "a space", "\t": "a tab" })[token] || `“${token}”`;
  const cell = (text, rank) => { // shaded, and underlined for those who see no shades
    const made = html("span", `guessed guessed-${rank > tries ? "missed" : rank}`, text);
    made.style.setProperty("--strength", `${rank > tries ? 0 : 45 / rank}%`);
    return made;
  };
  const box = html("div", "characters guessing-text", before);
  box.dir = "auto";
  for (const [token, rank] of guessed) {
    box.append(cell(token === "\n" ? "↵\n" : token, rank));
  }
  if (!over) box.append(html("span", "guessing-next", "?"), html("span", "guessing-left", " ·".repeat(Math.max(0, left - 1))));
  const parts = [box];
  if (guessed.length) {
    const legend = html("p", "expected-hint guessing-legend");
    ["right on the 1st guess", "on the 2nd", "on the 3rd", "not guessed"].forEach((text, i) => legend.append(cell(text, i + 1), " "));
    parts.push(legend);
  }
  if (!over) {
    // A keyboard that composes (Pinyin, Kana, Hangul, an accent) ends with the character it was about. Keyboards of phones
    // compose all letters, so one of the alphabet in which most of the passage is written counts at once.
    const letters = before.match(/\p{L}/gu) || [];
    const alphabet = ["Latin", "Greek", "Cyrillic", "Hebrew", "Arabic"].map((script) => new RegExp(`^(?=\\p{L})\\p{Script=${script}}$`, "u"))
      .find((one) => letters.filter((letter) => one.test(letter)).length > letters.length / 2);
    const label = html("label", "guessing-label", "Your guess "), field = html("input", "guessing-field");
    field.maxLength = 2;
    field.autocomplete = "off";
    field.autocapitalize = "off";
    field.spellcheck = false;
    const send = (letter) => { // the answer draws a new field; a guess before it would be dropped
      if (field.readOnly) return;
      field.value = "";
      field.readOnly = true;
      trigger("select", { letter });
    };
    const first = () => Array.from(field.value)[0];
    field.addEventListener("input", (event) => {
      if (field.value && (!event.isComposing || alphabet?.test(first()))) send(first());
    });
    field.addEventListener("compositionend", () => { if (field.value) send(first()); });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      send("\n");
    });
    label.append(field, html("span", "guessing-tries", `try ${wrong.length + 1} of ${tries}${wrong.length ? `; not ${wrong.map(spoken).join(", ")}` : ""}. Enter guesses a line break.`));
    parts.push(label);
  }
  const said = html("p", "guessing-words");
  if (last.right !== undefined) {
    const how = last.rank > tries ? "None of your guesses" : ["", "Right on the first guess", "Right on the second guess", "Right on the third guess"][last.rank] || "Right";
    said.append(`${how}: it was ${spoken(last.right)}. ${words}`);
    const list = tokenBars(last.bars, undefined, last.right);
    list.setAttribute("aria-label", "What the model expected there");
    parts.push(said, html("p", "expected-hint", "What the model expected there:"), list);
  } else parts.push(said);
  const typing = root.contains(document.activeElement);
  area.replaceChildren(...parts);
  say(said.textContent);
  if (typing) root.querySelector(".guessing-field")?.focus({ preventScroll: true });
}
