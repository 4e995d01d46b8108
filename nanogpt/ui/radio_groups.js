// Gradio names every radio button differently, so each would be a tab stop of its own. With one name per group, the browser
// gives a group one tab stop and the arrow keys. Gradio may rename them whenever it redraws, so this is done again then.
const group = () => {
  for (const radio of document.querySelectorAll("fieldset[id] input[type=radio]")) {
    const box = radio.closest("fieldset"), name = "group-" + box.id;
    if (radio.name !== name) radio.name = name;
    box.setAttribute("role", "radiogroup");
    box.setAttribute("aria-label", box.querySelector("[data-testid=block-info]")?.textContent ?? "");
  }
};
const hasRadio = (node) => node.type === "radio" || Boolean(node.querySelector?.("input[type=radio]"));
if (!window.__groups) {
  window.__groups = new MutationObserver((changes) => {
    if (changes.some(({ type, target, addedNodes }) => (type === "attributes" ? [target] : [...addedNodes]).some(hasRadio))) group();
  });
  window.__groups.observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["name"] });
}
group();
