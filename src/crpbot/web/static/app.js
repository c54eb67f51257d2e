// What every page does: it listens for news, brings the parts that have changed up to date, and says so to those who cannot see it.
// Nothing here knows a market or a model: pages are made by the server, and a part that lives names the news that concern it:
//   <div id="said-table" data-live="signals">

const EVERY = 1000; // ms at least between two refreshes of a page
const AGAIN = 10_000; // ms until a server that has refused to be listened to is asked again
const KINDS = ["signals", "models", "health", "jobs", "overview"]; // of news, beside candles
const line = document.getElementById("line");
const said = document.getElementById("said");
let waiting = null;
let last = 0;
let wanted = new Set();
let source = null;
let greeted = false; // whether there was a line before: what came between it and this one was not heard

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

/** Return what finds an element of a part again after that was replaced: its id, or its address and which one of these it is. */
function mark(part, element) {
  if (element.id) return () => document.getElementById(element.id);
  const href = element.getAttribute("href");
  if (!href) return () => null;
  const alike = () => [...part.querySelectorAll("a[href]")].filter((one) => one.getAttribute("href") === href);
  const at = alike().indexOf(element);
  return () => alike()[at] ?? alike()[0];
}

/** Return what puts back how somebody has left a part: what is open, what is scrolled, and where the keyboard is. */
function keep(part) {
  const focus = part.contains(document.activeElement) ? mark(part, document.activeElement) : null;
  const open = [...part.querySelectorAll("details[id]")].map((one) => [one.id, one.open]);
  const scrolled = [...part.querySelectorAll("[id]")]
    .filter((one) => one.scrollLeft || one.scrollTop)
    .map((one) => [one.id, one.scrollLeft, one.scrollTop]);
  return () => {
    for (const [id, was] of open) document.getElementById(id)?.toggleAttribute("open", was);
    for (const [id, left, top] of scrolled) document.getElementById(id)?.scrollTo({ left, top, behavior: "instant" });
    focus?.()?.focus({ preventScroll: true });
  };
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
    const putBack = keep(part);
    part.innerHTML = fresh.innerHTML;
    part.dataset.seen = fresh.innerHTML;
    if (!fresh.dataset.live) delete part.dataset.live; // nothing more will come of it
    putBack();
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

/** Bring everything up to date: news were missed, and nobody knows which. */
function again() {
  document.dispatchEvent(new CustomEvent("again"));
  for (const kind of ["candle", ...KINDS]) ask(kind);
}

function listen() {
  source?.close();
  source = new EventSource("/api/events");
  source.addEventListener("hello", () => {
    state("open", "live");
    if (greeted) again();
    greeted = true;
  });
  source.addEventListener("error", ({ target }) => {
    state("lost", "reconnecting");
    if (target.readyState === EventSource.CLOSED) setTimeout(() => target === source && listen(), AGAIN); // it does not by itself
  });
  source.addEventListener("again", again);
  source.addEventListener("candle", (event) => {
    const candle = JSON.parse(event.data);
    document.dispatchEvent(new CustomEvent("candle", { detail: candle }));
    ask("candle");
  });
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      document.dispatchEvent(new CustomEvent(kind, { detail: JSON.parse(event.data) }));
      ask(kind);
    });
  }
}

/** Listen while somebody looks: a browser holds six lines to a server, and pages in the background would take them all. */
function look() {
  if (!document.hidden) {
    if (!source) listen();
    return;
  }
  source?.close();
  source = null;
  state("waiting", "paused");
}

document.addEventListener("visibilitychange", look);
addEventListener("pagehide", () => {
  source?.close();
  source = null;
});
addEventListener("pageshow", (event) => {
  if (event.persisted) look();
});
look();
