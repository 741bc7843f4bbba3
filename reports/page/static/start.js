// What is done when the page opens. This stands before the data: nothing waits for megabytes that are not looked at.

for (const tools of document.querySelectorAll("[data-grid] [data-needs-script]")) tools.hidden = false;
document.querySelectorAll("[data-grid]").forEach(startGrid);

const root = document.getElementById("browser");
if (root) new Browser(root).start();
