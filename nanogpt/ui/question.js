// The question of a dialog: draw(root, text). accessible.js names the dialog after it.
function draw(root, data) {
  if (!root.__question) {
    root.__question = document.createElement("p");
    root.__question.className = "dialog-question";
    root.replaceChildren(root.__question);
  }
  root.__question.textContent = data || "";
}
