// Runs before the first paint: a chosen theme must not flash. A classic script, because modules run later.
(() => {
  let theme = "auto";
  try {
    theme = localStorage.getItem("vl2.theme") ?? "auto";
  } catch { /* storage may be forbidden */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
