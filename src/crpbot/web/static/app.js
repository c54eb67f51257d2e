// What every page does: it listens for news, brings the parts that have changed up to date, and says so to those who cannot see it.
// Nothing here knows a market or a model: pages are made by the server, and a part that lives names the news that concern it:
//   <div id="overview" data-live="models signals candle">

const EVERY = 1000; // ms at least between two refreshes of a page
const line = document.getElementById("line");
const said = document.getElementById("said");
let waiting = null;
let last = 0;
let wanted = new Set();

/** Show how the line to the server is. */
function state(name, words) {
  if (!line) return;
  line.dataset.state = name;
  line.querySelector(".words").textContent = words;
}

/** Say something to screen readers. */
export function say(words) {
  if (said) said.textContent = words;
}

/** Return what finds an element again after its part was replaced. */
function mark(element) {
  if (!element || element === document.body) return null;
  if (element.id) return `#${CSS.escape(element.id)}`;
  const href = element.getAttribute("href");
  return href ? `a[href="${CSS.escape(href)}"]` : null;
}

/** Bring the parts that live by `kinds` up to date, from the page as the server makes it now. */
async function refresh(kinds) {
  const parts = [...document.querySelectorAll("[data-live]")].filter((part) =>
    part.dataset.live.split(" ").some((kind) => kinds.has(kind)),
  );
  if (!parts.length) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts) {
    const fresh = page.getElementById(part.id);
    if (!fresh || fresh.innerHTML === part.dataset.seen) continue;
    const inside = part.contains(document.activeElement);
    if (inside && document.activeElement.matches("input, select, textarea")) continue; // somebody is typing
    const focus = inside ? mark(document.activeElement) : null;
    const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
    part.innerHTML = fresh.innerHTML;
    part.dataset.seen = fresh.innerHTML;
    if (!fresh.dataset.live) delete part.dataset.live; // nothing more will come of it
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focus) part.querySelector(focus)?.focus({ preventScroll: true });
    part.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
  }
}

function ask(kind) {
  wanted.add(kind);
  if (waiting) return;
  const rest = Math.max(0, EVERY - (performance.now() - last));
  waiting = setTimeout(async () => {
    const kinds = wanted;
    wanted = new Set();
    last = performance.now();
    try {
      await refresh(kinds);
    } catch {
      // the line tells when the server is gone
    }
    waiting = null;
    if (wanted.size) ask([...wanted][0]);
  }, rest);
}

function listen() {
  const source = new EventSource("/api/events");
  source.addEventListener("hello", () => state("open", "live"));
  source.addEventListener("error", () => state("lost", source.readyState === EventSource.CLOSED ? "closed" : "reconnecting"));
  source.addEventListener("candle", (event) => {
    const candle = JSON.parse(event.data);
    document.dispatchEvent(new CustomEvent("candle", { detail: candle }));
    ask("candle");
  });
  for (const kind of ["signals", "models", "health", "jobs"]) {
    source.addEventListener(kind, (event) => {
      document.dispatchEvent(new CustomEvent(kind, { detail: JSON.parse(event.data) }));
      ask(kind);
    });
  }
  addEventListener("pagehide", () => source.close());
}

addEventListener("pageshow", (event) => {
  if (event.persisted) listen();
});
listen();
