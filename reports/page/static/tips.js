// What signs say, for whoever points at them, reaches them by keyboard or taps on them; tables as files; and a word where something is wider than the window.

function startTips(elements) {
  const box = make("div", { id: "tip", role: "tooltip", hidden: true });
  document.body.append(box);
  const hide = () => { box.hidden = true; };
  for (const element of elements) {
    const text = element.title;
    element.removeAttribute("title"); // else the browser shows its own beside ours
    element.setAttribute("aria-description", text);
    const show = () => {
      box.textContent = text;
      box.hidden = false;
      const [at, size] = [element.getBoundingClientRect(), box.getBoundingClientRect()];
      box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
      box.style.top = `${at.bottom + size.height + 8 < innerHeight ? at.bottom + 6 : at.top - size.height - 6}px`;
    };
    element.addEventListener("pointerenter", show);
    element.addEventListener("focus", show);
    element.addEventListener("pointerleave", hide);
    element.addEventListener("blur", hide);
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("scroll", hide, true);
}

async function saveFile(button) {
  const url = URL.createObjectURL(new Blob([await load(button.dataset.source)], { type: "text/plain" }));
  const link = make("a", { href: url, download: button.dataset.file });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Above everything that scrolls sideways: whether there is more to the right. */
function startScrolls(part) {
  for (const box of part.querySelectorAll(".scroll")) {
    const hint = make("p", { class: "hint", hidden: true }, "more to the right: scroll \u2192");
    box.before(hint);
    const look = () => {
      const more = box.scrollWidth - box.clientWidth - box.scrollLeft > 2;
      box.toggleAttribute("data-more", more);
      hint.hidden = box.scrollWidth <= box.clientWidth + 2;
      hint.style.visibility = more ? "visible" : "hidden"; // at the end of the way it keeps its place
    };
    box.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(box);
  }
}
