// Say so if the page can't be loaded. It uses only what old browsers know, because it must work where the other scripts don't.
"use strict";

function incomplete() {
  document.getElementById("status").textContent =
    "This page is incomplete, or your browser is too old for it. Download the page again, or open it in another browser.";
}

addEventListener("error", incomplete); // as when a browser can't parse one of the scripts that follow
addEventListener("DOMContentLoaded", function () {
  if (!document.getElementById("end")) incomplete(); // the file was cut off
});
