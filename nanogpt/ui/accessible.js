// What Gradio leaves out for the keyboard and for screen readers. It may draw again at any time, so this is done again then.
//
// It names every radio button differently, so each would be a tab stop of its own. With one name per group, the browser
// gives a group one tab stop and the arrow keys. And a text field with a Copy button loses its label.
const amend = () => {
  const title = (box) => box?.querySelector("[data-testid=block-info]")?.textContent ?? "";
  for (const radio of document.querySelectorAll("fieldset[id] input[type=radio]")) {
    const box = radio.closest("fieldset"), name = "group-" + box.id;
    if (radio.name !== name) radio.name = name;
    box.setAttribute("role", "radiogroup");
    box.setAttribute("aria-label", title(box));
  }
  for (const field of document.querySelectorAll("textarea:not([aria-label])")) {
    if (!field.labels.length) field.setAttribute("aria-label", title(field.closest(".block")));
  }
};
const concerns = (node) => node.matches?.("[type=radio], textarea") || Boolean(node.querySelector?.("[type=radio], textarea"));
if (!window.__amended) {
  window.__amended = new MutationObserver((changes) => {
    if (changes.some(({ type, target, addedNodes }) => (type === "attributes" ? [target] : [...addedNodes]).some(concerns))) amend();
  });
  window.__amended.observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["name"] });
}
amend();
