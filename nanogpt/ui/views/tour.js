// The tour: draw(root, {steps: [{key, title, says, question, choices, right, do, answer}, …], model, tokens, …}), and later,
// for what a step has asked of the server, draw(root, {want: key, …}). `model` names the weights that it is about.
//
// A step asks, then has you do something (tour_steps.js), and answers when both are done. How far you are is kept in the
// browser, for all models together; an answer counts only for the question that it was given to. `select` asks the server
// for something quick and comes with {want, …}. The events of TRAINS have it train: it says in `doing` what happens, and
// {want, ended: true} when nothing more comes. `stop` ends that.
function draw(root, data) {
  const html = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const STORED = "nanogpt-tour";
  const TRAINS = { mask: "submit", adamw: "apply" }; // an event for each, because one that is pending takes no other
  if (!data) return root.replaceChildren();
  const view = root.__tour || (root.__tour = { at: 0, done: new Set(), answers: {}, heard: {} });
  if (!view.lesson) Object.assign(view, remembered());
  if (data.want) {
    const { doing, ended } = view.heard[data.want] || {};
    if (!data.ended) told(data);
    else if (doing && !ended) told({ ...view.heard[data.want], doing: "Stopped.", spoken: "Stopped.", ended: true });
    return;
  }
  if (!data.steps) return root.replaceChildren();
  if (view.lesson && view.lesson.model !== data.model) view.heard = {}; // the text can be the same
  view.lesson = data;
  view.at = Math.min(view.at, data.steps.length - 1);
  show();

  function told(message) {
    view.heard[message.want] = message;
    if (view.hear) view.hear(message);
  }
  function train(want) { // unless another step has asked for it already
    const { doing, ended } = view.heard[want] || {};
    if (doing && !ended) return view.hear(view.heard[want]);
    told({ want, doing: "Waiting for its turn …" });
    trigger(TRAINS[want], {});
  }
  function remembered() {
    try {
      const { at = 0, done = [], answers = {} } = JSON.parse(localStorage.getItem(STORED)) || {};
      return { at, done: new Set(done), answers };
    } catch { // storage is switched off
      return { at: view.at, done: view.done, answers: view.answers };
    }
  }
  function keep(change = () => {}) { // `change` is made to what is stored now: another browser tab may have gone further
    Object.assign(view, { ...remembered(), at: view.at });
    change();
    try {
      localStorage.setItem(STORED, JSON.stringify({ at: view.at, done: [...view.done], answers: view.answers }));
    } catch { /* then progress lasts as long as the page */ }
  }
  function go(i, focus, change) {
    view.at = Math.max(0, Math.min(view.lesson.steps.length - 1, i));
    keep(change);
    show();
    if (focus) root.querySelector(focus)?.focus({ preventScroll: true });
  }
  function show() {
    const { steps } = view.lesson, step = steps[view.at], last = view.at === steps.length - 1;
    const title = html("h3", "tour-title", `${view.at + 1}. ${step.title}`);
    title.tabIndex = -1;
    const area = html("div", "tour-do"), answer = html("div", "tour-answer");
    answer.setAttribute("role", "status");
    const button = (text, act, primary) => {
      const made = html("button", primary ? "tour-button tour-primary" : "tour-button", text);
      made.type = "button";
      made.addEventListener("click", act);
      return made;
    };
    const back = button("Back", () => go(view.at - 1, ".tour-title"));
    back.disabled = !view.at;
    const next = button(last ? "Finish" : "Next", () => (last ? finish() : go(view.at + 1, ".tour-title")), true);
    const restart = button("Restart", () => {
      go(0, ".tour-title", () => Object.assign(view, { done: new Set(), answers: {}, heard: {} }));
    });
    const nav = html("div", "tour-nav"), end = html("p", "tour-end");
    end.setAttribute("role", "status");
    nav.append(back, next, restart);
    root.replaceChildren(progress(), title, html("p", "tour-says", step.says), question(), area, answer, nav, end);
    let hear = () => {};
    if (answered() !== undefined) begin();
    view.hear = (message) => { hear(message); settle(); };

    function answered() { // with which choice; another model may have been asked something else
      const { to, choice } = view.answers[step.key] || {};
      return to === step.question && step.choices.includes(choice) ? choice : undefined;
    }
    function question() {
      const box = html("fieldset", "tour-question"), legend = html("legend", "", step.question), name = `tour-${step.key}`;
      box.append(legend);
      step.choices.forEach((choice, i) => {
        const label = html("label", "tour-choice"), radio = html("input", "");
        Object.assign(radio, { type: "radio", name, value: String(i), checked: answered() === choice });
        radio.addEventListener("change", () => {
          const first = answered() === undefined;
          keep(() => { view.answers[step.key] = { to: step.question, choice }; });
          if (first) begin();
          settle();
        });
        label.append(radio, html("span", "", choice));
        box.append(label);
      });
      return box;
    }
    function begin() { // what there is to do appears once you have chosen an answer
      const inner = html("div", "tour-area");
      area.replaceChildren(html("p", "tour-todo", step.do), inner);
      hear = tourSteps(html)[step.key](inner, view.lesson, {
        heard: view.heard, ask: (payload) => trigger("select", payload), train, stop: () => trigger("stop", {}), button,
        complete: () => {
          if (view.done.has(step.key)) return;
          keep(() => view.done.add(step.key));
          root.querySelector(".tour-steps").replaceWith(progress());
          settle();
        },
      }) || (() => {});
      settle();
    }
    function settle() { // the answer
      const chosen = answered(), words = step.answer || view.heard[step.key]?.words || "";
      if (chosen === undefined || !view.done.has(step.key) || !words) return answer.replaceChildren();
      const right = step.choices[step.right];
      const verdict = chosen === right ? "Right. " : `Not quite. The answer is: ${right}. `;
      const text = verdict + words;
      if (answer.textContent === text) return;
      const paragraph = html("p", "");
      paragraph.append(html("b", "", verdict), words);
      answer.replaceChildren(paragraph);
    }
    function finish() {
      const open = steps.filter(({ key }) => !view.done.has(key));
      end.textContent = open.length
        ? `You have done ${steps.length - open.length} of ${steps.length} steps. Left: ${open.map(({ title }) => title).join("; ")}.`
        : "You have done every step. Now look at your own model: every view in this tab goes deeper into one of them.";
    }
  }
  function progress() { // one tab stop, with arrow keys
    const { steps } = view.lesson, list = html("div", "tour-steps");
    list.setAttribute("role", "group");
    list.setAttribute("aria-label", `Steps of the tour, ${view.done.size} of ${steps.length} done. Move with the arrow keys.`);
    steps.forEach(({ key, title }, i) => {
      const dot = html("button", "tour-dot", String(i + 1)), done = view.done.has(key);
      dot.type = "button";
      dot.title = title;
      dot.tabIndex = i === view.at ? 0 : -1;
      dot.dataset.done = String(done);
      dot.setAttribute("aria-label", `Step ${i + 1}: ${title}${done ? ", done" : ""}`);
      if (i === view.at) dot.setAttribute("aria-current", "step");
      dot.addEventListener("click", () => go(i, ".tour-dot[aria-current]"));
      list.append(dot);
    });
    list.addEventListener("keydown", (event) => {
      const to = { ArrowRight: view.at + 1, ArrowDown: view.at + 1, ArrowLeft: view.at - 1, ArrowUp: view.at - 1, Home: 0, End: steps.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      go(to, ".tour-dot[aria-current]");
    });
    return list;
  }
}
