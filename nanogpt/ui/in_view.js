// Keeps what grows in view: inView() returns {again(), follow(element)}. `follow` scrolls the page to an element until you
// scroll, and `again` makes it follow again. All of them share what listens to the window, because a drawing that is hidden
// and shown again is a new one each time.
function inView() {
  const scrolled = window.__scrolled || (window.__scrolled = listening());
  let before = scrolled.times;
  return {
    again() { before = scrolled.times; },
    follow(element) { if (scrolled.times === before) element.scrollIntoView({ block: "nearest", behavior: "instant" }); },
  };
}
function listening() {
  const scrolled = { times: 0 }, leave = () => { scrolled.times++; };
  for (const scrolls of ["wheel", "touchmove"]) addEventListener(scrolls, leave, { passive: true });
  addEventListener("pointerdown", (event) => { if (event.target === document.documentElement) leave(); }); // its scroll bar
  addEventListener("keydown", ({ key }) => {
    if (["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End", " ", "Tab"].includes(key)) leave();
  });
  return scrolled;
}
