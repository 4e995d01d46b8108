// Runs before Gradio's scripts. What is only about speed does nothing if a later Gradio works differently.
{
  // Gradio's own words would be in the browser's language and ours in English, so say that this browser speaks English.
  for (const [name, value] of [["language", "en"], ["languages", ["en"]]])
    Object.defineProperty(navigator, name, { get: () => value });

  // Gradio makes what it reads from a plain array reactive, and it goes through its list of events for each component:
  // hundreds of thousands of reads before the page is drawn. A list that isn't quite a plain array it takes as it is.
  class Events extends Array {}
  let config;
  Object.defineProperty(window, "gradio_config", {
    configurable: true,
    get: () => config,
    set: (given) => {
      if (Array.isArray(given?.dependencies)) Object.setPrototypeOf(given.dependencies, Events.prototype);
      config = given;
    },
  });

  // The loading display counts seconds at every frame and never stops, though it is gone once the page is drawn: a
  // tenth of a core without a GPU. So find a chain of callbacks that began before, each a new function that the last
  // one asked for, and end it. (A function that asks for itself again is left alone: other parts may share its loop.)
  const drawn = () => document.querySelector("[role=tab]");
  const ask = window.requestAnimationFrame;
  let running = null; // the callback that is running: the function, when its chain began, and how long that is
  window.requestAnimationFrame = (callback) => {
    const link = { callback, early: running?.early ?? !drawn(), length: (running?.length ?? 0) + 1 };
    if (link.early && link.length > 100 && callback !== running.callback && drawn()) {
      window.requestAnimationFrame = ask;
      return 0;
    }
    return ask.call(window, (time) => {
      running = link;
      try {
        callback(time);
      } finally {
        running = null;
      }
    });
  };
}
