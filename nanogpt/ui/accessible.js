// What Gradio leaves out for the keyboard and for screen readers. It may draw again at any time, so this is done again then.
//
// It names every radio button differently, so each would be a tab stop of its own. With one name per group, the browser
// gives a group one tab stop and the arrow keys. Tabs and openings get the same here: the arrow keys, Home and End move
// among them, Enter opens one. A tab that you choose from "More tabs" gets the focus, which would be lost with the list, and
// the list closes when the focus leaves it. A text field with a Copy button loses its label. And a group can't be made a
// dialog: one with a question gets its role and its name here, so that the question is read out when the focus goes to one of
// its buttons.
const title = (box) => box?.querySelector("[data-testid=block-info]")?.textContent ?? "";
const GROUPS = { "[role=tablist]": "[role=tab]", ".overflow-dropdown": "button", "#sample-openings": "button" };
const members = (group) => [...group.querySelectorAll(GROUPS[Object.keys(GROUPS).find((one) => group.matches(one))])];
const groupOf = (node) => node.closest?.(Object.keys(GROUPS).join());
function oneStop(group) { // the member that has the focus, else the selected one, else the first
  const all = members(group).filter((one) => one.offsetParent);
  const stop = all.find((one) => one === document.activeElement) ?? all.find((one) => one.ariaSelected === "true") ?? all[0];
  for (const one of members(group)) {
    const index = one === stop ? 0 : -1;
    if (one.tabIndex !== index) one.tabIndex = index;
  }
}
let goal = null; // the row of tabs that the focus goes to, once it has the selected one
const amend = () => {
  for (const radio of document.querySelectorAll("fieldset[id] input[type=radio]")) {
    const box = radio.closest("fieldset"), name = "group-" + box.id;
    if (radio.name !== name) radio.name = name;
    box.setAttribute("role", "radiogroup");
    box.setAttribute("aria-label", title(box));
  }
  for (const field of document.querySelectorAll("textarea:not([aria-label])")) {
    if (!field.labels.length) field.setAttribute("aria-label", title(field.closest(".block")));
  }
  for (const question of document.querySelectorAll(".dialog-question")) {
    const dialog = question.closest(".dialog");
    question.id = dialog.id + "-words";
    dialog.setAttribute("role", "alertdialog");
    dialog.setAttribute("aria-labelledby", question.id);
  }
  const tab = goal?.querySelector("[role=tab][aria-selected=true]");
  if (tab) {
    goal = null;
    tab.focus();
  }
  document.querySelectorAll(Object.keys(GROUPS).join()).forEach(oneStop);
};
const KINDS = "[type=radio], textarea, [role=tab], .overflow-dropdown button, #sample-openings button, .dialog-question";
const concerns = (node) => node.matches?.(KINDS) || Boolean(node.querySelector?.(KINDS));
if (!window.__amended) {
  window.__amended = new MutationObserver((changes) => {
    if (changes.some(({ type, target, addedNodes }) => (type === "attributes" ? [target] : [...addedNodes]).some(concerns))) amend();
  });
  const attributeFilter = ["name", "tabindex", "aria-selected"];
  window.__amended.observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter });
  document.addEventListener("keydown", (event) => {
    const group = groupOf(event.target), all = group ? members(group).filter((one) => one.offsetParent) : [];
    const at = all.indexOf(event.target), last = all.length - 1;
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last }[event.key];
    if (at < 0 || to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    all[(to + all.length) % all.length].focus();
  });
  for (const moves of ["focusin", "focusout"]) {
    document.addEventListener(moves, (event) => {
      const group = groupOf(event.target);
      if (group) setTimeout(oneStop, 0, group); // once the focus is where it goes
    });
  }
  document.addEventListener("focusout", ({ target, relatedTarget }) => {
    const more = target.closest?.(".overflow-menu");
    if (!relatedTarget || !more || more.contains(relatedTarget)) return;
    if (more.querySelector(".overflow-dropdown:not(.hide)")) more.querySelector("button").click();
  });
  document.addEventListener("click", ({ isTrusted, target }) => {
    const listed = target.closest?.(".overflow-dropdown button");
    goal = listed ? listed.closest(".tab-wrapper") : null;
    if (isTrusted && (listed || target.closest?.("[role=tab]"))) window.nanogptChoseTab = true; // it stays after a refresh
  }, true);
}
amend();
