// Parts of the page that the server draws again when they change, over server-sent events.

export function followLive(ready) {
  const address = document.body.dataset.live;
  const sign = document.querySelector("[data-live-state]");
  if (!address || !sign) return;
  const source = new EventSource("/live" + address);
  show(sign, "off", "connecting");
  source.addEventListener("open", () => show(sign, "on", "live"));
  source.addEventListener("error", () => {
    show(sign, "off", source.readyState === EventSource.CLOSED ? "not live" : "reconnecting");
  });
  source.addEventListener("part", (event) => {
    const { id, html } = JSON.parse(event.data);
    const element = document.getElementById(id);
    if (element && !busy(element)) replace(element, html, ready);
  });
  source.addEventListener("gone", () => {
    source.close();
    location.reload();
  });
  window.addEventListener("pagehide", () => source.close());
}

function show(sign, state, text) {
  sign.hidden = false;
  sign.className = "live " + state;
  sign.textContent = text;
}

// Whether somebody writes or has text selected in it: then it waits for the next change.
function busy(element) {
  const active = document.activeElement;
  if (active && element.contains(active) && active.matches("input, select, textarea")) return true;
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && element.contains(selection.anchorNode));
}

function replace(element, html, ready) {
  const places = [...element.querySelectorAll("a, button, [tabindex]")];
  const focused = places.indexOf(document.activeElement);
  const scrolled = [...element.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  element.innerHTML = html;
  ready(element);
  element.querySelectorAll(".scroll").forEach((one, number) => {
    one.scrollLeft = scrolled[number] ?? 0;
  });
  if (focused >= 0) {
    const again = element.querySelectorAll("a, button, [tabindex]")[focused];
    if (again) again.focus({ preventScroll: true });
  }
}
