// A run that is going on: the server (distilbench view) sends each part anew when it has changed, its text escaped.

function follow(address) {
  const state = document.getElementById("live-state");
  const source = new EventSource(address);
  source.addEventListener("part", (event) => {
    const { id, html } = JSON.parse(event.data);
    const box = document.getElementById(id);
    if (!box) return;
    const open = new Map([...box.querySelectorAll("details[data-key]")].map((one) => [one.dataset.key, one.open]));
    const places = new Map([...box.querySelectorAll(".scroll")].map((one) => [one.ariaLabel, one.scrollLeft]));
    box.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
    startScrolls(box);
    for (const one of box.querySelectorAll(".scroll")) one.scrollLeft = places.get(one.ariaLabel) || 0;
    for (const one of box.querySelectorAll("details[data-key]")) if (open.has(one.dataset.key)) one.open = open.get(one.dataset.key);
  });
  source.addEventListener("finished", () => {
    source.close();
    location.replace(document.body.dataset.report);
  });
  source.addEventListener("open", () => state.classList.remove("lost"));
  source.addEventListener("error", () => state.classList.add("lost")); // the browser tries again by itself
}

if (document.body.dataset.events) follow(document.body.dataset.events);
