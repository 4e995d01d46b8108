// The generated text: draw(root, {prompt, texts: [text, …], state}). Each text follows the prompt, which is marked.
// `state` is "writing" while more is to come. The view follows the newest line unless you have scrolled up.
function draw(root, data) {
  let view = root.__writing;
  if (!view) {
    const box = document.createElement("div");
    box.className = "writing";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Generated text");
    root.replaceChildren(box);
    view = root.__writing = { box, prompt: null, texts: [] };
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      if (event.target.closest("#sample-prompt")) document.querySelector("#sample-generate").click();
    });
  }
  const { prompt = "", texts = [], state = "" } = data || {};
  const { box } = view;
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const continues = view.prompt === prompt && view.texts.length === texts.length
    && texts.every((text, i) => text.startsWith(view.texts[i]));
  if (!continues) {
    view.prompt = prompt;
    view.texts = texts.map(() => "");
    box.replaceChildren(...texts.map((_, i) => {
      const one = document.createElement("p");
      one.dir = "auto";
      const mark = document.createElement("mark");
      mark.textContent = prompt;
      if (prompt) one.append(mark);
      one.append(document.createTextNode(""));
      return one;
    }));
  }
  texts.forEach((text, i) => {
    if (text.length > view.texts[i].length) box.children[i].lastChild.appendData(text.slice(view.texts[i].length));
  });
  view.texts = texts;
  box.dataset.state = state;
  if (!texts.length) {
    const hint = document.createElement("p");
    hint.className = "writing-hint";
    hint.textContent = "Press Generate to sample from the model.";
    box.replaceChildren(hint);
  }
  if (atEnd || !continues) box.scrollTop = continues ? box.scrollHeight : 0;
  if (!continues && texts.length) box.scrollIntoView({ block: "nearest", behavior: "instant" });
}
