// A page at rest asks the server nothing. When you come back to it, from another browser tab or window, it looks once more.
if (!window.__wakes) {
  window.__wakes = () => document.getElementById("page-wake")?.click();
  window.addEventListener("focus", window.__wakes);
  document.addEventListener("visibilitychange", () => document.hidden || window.__wakes());
}
