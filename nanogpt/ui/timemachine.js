// What a run wrote at one of its steps, and its milestones:
// draw(root, {texts: [{step, text}, …], at, prompt, milestones: [{step, at, says}, …], note}); `at` counts from 1.
//
// The milestones are one tab stop with arrow keys. Choosing one sets `at` and triggers the event "input".
function draw(root, data) {
  const { texts = [], at = 0, prompt = "", milestones = [], note = "" } = data || {};
  if (!texts.length) return root.replaceChildren();
  const html = (tag, className, content = "") => Object.assign(document.createElement(tag), { className, textContent: content });
  const now = Math.max(1, Math.min(texts.length, at || texts.length)), { step, text } = texts[now - 1];
  const focused = root.contains(document.activeElement) && document.activeElement.className;
  const number = (value) => value.toLocaleString("en");

  const title = html("p", "timemachine-title", step ? `After ${number(step)} step${step === 1 ? "" : "s"}, the model writes:` : "Before training, the model writes:");
  const box = html("div", "characters timemachine-text");
  box.dir = "auto";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `The text at step ${number(step)}`);
  box.append(html("b", "", prompt), text);
  const shown = [title, box];

  if (milestones.length) {
    const list = html("div", "timemachine-list");
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Milestones. Choose one to go there");
    list.tabIndex = 0;
    const chosen = milestones.findIndex((one) => one.at + 1 === now && one.says === root.__milestone);
    milestones.forEach((one, i) => {
      const option = html("div", "timemachine-option");
      option.setAttribute("role", "option");
      option.id = `milestone-${i}`;
      option.setAttribute("aria-selected", String(i === chosen));
      option.dataset.reached = String(one.at + 1 <= now);
      option.append(html("span", "", `${one.says}${/[.”]$/.test(one.says) ? "" : ","} at step ${number(one.step)}`));
      option.addEventListener("click", () => choose(i));
      list.append(option);
    });
    if (chosen >= 0) list.setAttribute("aria-activedescendant", `milestone-${chosen}`);
    list.addEventListener("keydown", (event) => {
      const to = { ArrowDown: chosen + 1, ArrowUp: Math.max(0, chosen - 1), Home: 0, End: milestones.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(Math.min(milestones.length - 1, to));
    });
    shown.push(html("p", "timemachine-title", "Milestones"), list);
  }
  if (note) shown.push(html("p", "timemachine-note", note));
  root.replaceChildren(...shown);
  if (focused) root.querySelector(`[class="${focused}"]`)?.focus();

  function choose(i) {
    root.__milestone = milestones[i].says;
    props.value = { ...data, at: milestones[i].at + 1 };
    draw(root, props.value);
    trigger("input");
  }
}
