// Runs before the first paint, so that a remembered dark page never flashes white.
(() => {
  let choice = null;
  try {
    choice = localStorage.getItem("kronreid.theme");
  } catch {
    // Storage may be switched off. Then the system's theme is used.
  }
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
})();
