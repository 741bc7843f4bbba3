// What is done when the page opens: tables at once, the question browser when all data is there.

for (const tools of document.querySelectorAll("[data-grid] [data-needs-script]")) tools.hidden = false;
for (const grid of document.querySelectorAll("[data-grid]")) startGrid(grid);

document.addEventListener("DOMContentLoaded", () => {
  const root = document.getElementById("browser");
  if (root) new Browser(root).start();
});
