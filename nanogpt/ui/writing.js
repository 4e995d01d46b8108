// The generated text: draw(root, {prompt, texts: [text, …], state}). Each text follows the prompt, which is marked.
// `state` is "writing" while more text will follow. After data with `stopped`, none will: a last piece that still arrives
// shows as stopped, too, until there is data in which `stopped` is false. The box shows the newest line unless you have scrolled up, and the page follows the box as it grows, until you scroll.
function draw(root, data) {
  let view = root.__writing;
  if (!view) {
    const box = document.createElement("div");
    box.className = "writing";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Generated text");
    root.replaceChildren(box);
    view = root.__writing = { box, prompt: null, texts: [], page: inView() };
  }
  if (!window.__generates) {
    window.__generates = (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      if (event.target.closest("#sample-prompt")) document.querySelector("#sample-generate").click();
    };
    document.addEventListener("keydown", window.__generates);
  }
  const { prompt = "", texts = [], stopped = view.stopped } = data || {};
  const state = stopped && data?.state === "writing" ? "stopped" : data?.state || "";
  const { box } = view;
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const continues = Boolean(view.texts.length) && view.prompt === prompt && view.texts.length === texts.length
    && texts.every((text, i) => text.startsWith(view.texts[i]));
  view.stopped = stopped;
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
  if (!texts.length) return;
  if (!continues) view.page.again();
  view.page.follow(box);
}
