// aloud(root) returns {area, say(text)}: where to draw, and a function that has screen readers announce a text. The region for
// it is kept from one drawing to the next, because what comes together with its region isn't announced.
function aloud(root) {
  if (!root.__aloud) {
    const area = document.createElement("div"), region = document.createElement("p");
    region.className = "spoken";
    region.setAttribute("role", "status");
    root.replaceChildren(area, region);
    root.__aloud = {
      area,
      say(text) { if (region.textContent !== text) region.textContent = text; },
    };
  }
  return root.__aloud;
}
