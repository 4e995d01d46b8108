// Keeps what grows in view: inView() returns {again(), follow(element)}. `follow` scrolls the page to an element until you
// scroll, and `again` makes it follow again.
function inView() {
  const view = {
    follows: true,
    again() { view.follows = true; },
    follow(element) { if (view.follows) element.scrollIntoView({ block: "nearest", behavior: "instant" }); },
  };
  const leave = () => { view.follows = false; };
  for (const scrolls of ["wheel", "touchmove"]) addEventListener(scrolls, leave, { passive: true });
  addEventListener("pointerdown", (event) => { if (event.target === document.documentElement) leave(); }); // its scroll bar
  addEventListener("keydown", ({ key }) => {
    if (["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End", " ", "Tab"].includes(key)) leave();
  });
  return view;
}
