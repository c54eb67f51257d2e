// The chart of a market: candles, the signals on them, and the plan of the chosen one. It asks the JSON API, hears of new candles from
// app.js, and takes its colours from the style sheet. All times are UTC.

import { say } from "./app.js";
import { CandlestickSeries, createChart, createSeriesMarkers, HistogramSeries, LineStyle } from "./lightweight-charts.mjs";

const FIRST = 1500; // candles to begin with, and each time that older ones are wanted
const MINUTE = 60; // seconds, as the library counts
const NEAR = 60; // candles from the left edge at which older ones are asked for

/** Return how many digits show a price: as `render.price` does. */
function digitsOf(price) {
  return price >= 100 || price === 0 ? 2 : Math.max(4, 3 - Math.floor(Math.log10(Math.abs(price))));
}

function written(price, digits) {
  return price.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function utc(seconds) {
  return `${new Date(1000 * seconds).toISOString().slice(0, 16)}Z`;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["up", "down", "good", "bad", "soft", "rule", "bg", "fg"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.json();
}

/** The plan of a signal on the candles: its entry zone, stop loss, take profit, and where it ended. */
class PlanOnChart {
  constructor(digits) {
    this.plan = null;
    this.digits = digits;
  }

  attached({ chart, series, requestUpdate }) {
    Object.assign(this, { chart, series, requestUpdate });
  }

  show(plan) {
    this.plan = plan;
    this.requestUpdate();
  }

  /** Return from when to when it is drawn, in seconds: until the trade was over, else until nobody may enter any more. */
  span() {
    const { candle, exit_time, expires } = this.plan;
    return [candle / 1000, exit_time ? exit_time / 1000 + MINUTE : Date.parse(expires) / 1000];
  }

  x(time) {
    const scale = this.chart.timeScale();
    const last = this.series.data().at(-1);
    if (!last) return null;
    const beyond = Math.max(0, (time - last.time) / MINUTE); // the end may be yet to come
    return scale.logicalToCoordinate(scale.timeToIndex(Math.min(time, last.time), true) + beyond);
  }

  paneViews() {
    return [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => this.draw(target) }) }];
  }

  draw(target) {
    if (!this.plan || this.plan.entry === null) return;
    const colour = colours();
    const [left, right] = this.span().map((time) => this.x(time));
    if (left === null || right === null) return;
    const y = (price) => this.series.priceToCoordinate(price);
    const { entry, zone_low, zone_high, stop_loss, take_profit, exit, exit_time } = this.plan;
    target.useMediaCoordinateSpace(({ context }) => {
      const box = (from, to, paint, alpha) => {
        context.globalAlpha = alpha;
        context.fillStyle = paint;
        context.fillRect(left, Math.min(y(from), y(to)), Math.max(2, right - left), Math.abs(y(to) - y(from)));
        context.globalAlpha = 1;
      };
      const line = (price, paint, dash) => {
        context.strokeStyle = paint;
        context.lineWidth = 1.5;
        context.setLineDash(dash);
        context.beginPath();
        context.moveTo(left, y(price));
        context.lineTo(Math.max(left + 2, right), y(price));
        context.stroke();
        context.setLineDash([]);
      };
      box(entry, take_profit, colour.good, 0.13);
      box(entry, stop_loss, colour.bad, 0.13);
      box(zone_low, zone_high, colour.fg, 0.16);
      line(take_profit, colour.good, []);
      line(stop_loss, colour.bad, []);
      line(entry, colour.fg, [4, 3]);
      if (exit !== null && exit_time !== null) {
        context.fillStyle = colour.fg;
        context.strokeStyle = colour.bg;
        context.lineWidth = 2;
        context.beginPath();
        context.arc(this.x(exit_time / 1000), y(exit), 5, 0, 2 * Math.PI);
        context.fill();
        context.stroke();
      }
    });
  }

  priceAxisViews() {
    if (!this.plan || this.plan.entry === null) return [];
    const colour = colours();
    const label = (price, paint) => ({
      coordinate: () => this.series.priceToCoordinate(price),
      text: () => written(price, this.digits),
      textColor: () => colour.bg,
      backColor: () => paint,
    });
    const { entry, stop_loss, take_profit } = this.plan;
    return [label(take_profit, colour.good), label(stop_loss, colour.bad), label(entry, colour.fg)];
  }

  /** Leave room for stop loss and take profit while the signal is in sight. */
  autoscaleInfo(first, last) {
    if (!this.plan || this.plan.entry === null) return null;
    const at = this.chart.timeScale().timeToIndex(this.plan.candle / 1000, true);
    if (at === null || at < first - 30 || at > last) return null;
    const { stop_loss, take_profit } = this.plan;
    return { priceRange: { minValue: Math.min(stop_loss, take_profit), maxValue: Math.max(stop_loss, take_profit) } };
  }
}

/** A market on the page. */
class MarketChart {
  constructor(box) {
    this.box = box;
    this.symbol = box.dataset.symbol;
    this.candles = [];
    this.volumes = [];
    this.signals = new Map();
    this.more = true;
    this.busy = false;
    this.newest = true; // whether the last candle is the newest of the market, and not that of an old signal
    this.chosen = null;
    const inside = document.createElement("div");
    inside.className = "inside";
    inside.setAttribute("aria-hidden", "true"); // the words beside it tell what it shows
    box.append(inside);
    this.chart = createChart(inside, { autoSize: true, layout: { attributionLogo: false } });
    this.series = this.chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.volume = this.chart.addSeries(HistogramSeries, { priceScaleId: "", lastValueVisible: false, priceLineVisible: false });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } });
    this.series.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.18 } });
    this.plan = new PlanOnChart(2);
    this.series.attachPrimitive(this.plan);
    this.markers = createSeriesMarkers(this.series, []);
    this.paint();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range && range.from < NEAR) this.older();
    });
    this.chart.subscribeClick(({ hoveredObjectId }) => {
      if (hoveredObjectId) this.choose(Number(hoveredObjectId));
    });
    box.addEventListener("keydown", (event) => this.key(event));
  }

  paint() {
    const colour = colours();
    this.chart.applyOptions({
      layout: { background: { color: colour.bg }, textColor: colour.soft, fontFamily: "system-ui, sans-serif" },
      grid: { vertLines: { color: colour.rule, style: LineStyle.Dotted }, horzLines: { color: colour.rule, style: LineStyle.Dotted } },
      timeScale: { timeVisible: true, secondsVisible: false, borderColor: colour.rule, rightOffset: 8 },
      rightPriceScale: { borderColor: colour.rule },
      localization: { locale: "en-GB", timeFormatter: (time) => `${utc(time).replace("T", " ").slice(0, 16)} UTC` },
    });
    this.series.applyOptions({ upColor: colour.up, downColor: colour.down, wickUpColor: colour.up, wickDownColor: colour.down });
    this.volume.applyOptions({ color: colour.rule, priceFormat: { type: "volume" } });
    this.mark();
  }

  /** Return candles that opened before a moment in milliseconds, or the newest, and whether there are older ones. */
  async ask(before) {
    const asked = before === null ? "" : `&before=${before}`;
    const found = await fetched(`/api/candles/${encodeURIComponent(this.symbol)}?count=${FIRST}${asked}`);
    const rows = found.time.map((time, row) => ({
      time: time / 1000,
      open: found.open[row],
      high: found.high[row],
      low: found.low[row],
      close: found.close[row],
      volume: found.volume[row],
    }));
    return { rows, more: found.more };
  }

  /** Ask for candles that opened before a moment in milliseconds, or the newest; they are put before those that are there. */
  async load(before = null) {
    const { rows, more } = await this.ask(before);
    this.more = more;
    const first = this.candles.length ? this.candles[0].time : Infinity;
    this.candles = [...rows.filter((row) => row.time < first), ...this.candles];
    if (!this.candles.length) return;
    this.show();
    await this.find();
  }

  /** Bring the newest candles up to date, where some were missed; older ones stay, unless there would be a hole. */
  async renew() {
    if (!this.newest) return;
    const { rows, more } = await this.ask(null);
    if (!rows.length) return;
    const [first, last] = [rows[0].time, rows.at(-1).time];
    const older = this.candles.filter((one) => one.time < first);
    const joined = older.length && older.at(-1).time === first - MINUTE;
    this.more = joined ? this.more : more;
    this.candles = [...(joined ? older : []), ...rows, ...this.candles.filter((one) => one.time > last)];
    this.show();
    await this.find();
  }

  /** Show the candles that are there. */
  show() {
    const digits = digitsOf(this.candles.at(-1).close);
    this.plan.digits = digits;
    this.series.applyOptions({
      priceFormat: { type: "custom", minMove: 10 ** -digits, formatter: (price) => written(price, digits) },
    });
    this.series.setData(this.candles);
    this.volume.setData(this.candles.map(({ time, volume }) => ({ time, value: volume })));
    this.tell();
  }

  async older() {
    if (this.busy || !this.more || !this.candles.length) return;
    this.busy = true;
    try {
      await this.load(1000 * this.candles[0].time);
    } catch {
      // the line tells when the server is gone
    }
    this.busy = false;
  }

  /** Find the signals of the candles that are there. */
  async find() {
    const since = 1000 * this.candles[0].time;
    let before = this.newest ? "" : `${1000 * (this.candles.at(-1).time + MINUTE)}-0`;
    do {
      const known = this.signals.size;
      const found = await fetched(
        `/api/signals?symbol=${encodeURIComponent(this.symbol)}&since=${since}&before=${before}&limit=500`,
      );
      for (const one of found.signals) this.signals.set(one.id, one);
      before = this.signals.size > known || found.signals.some((one) => one.outcome === null) ? found.next : null;
    } while (before);
    this.mark();
    this.tell();
  }

  /** Put an arrow on the candle of each signal. */
  mark() {
    if (!this.markers || !this.candles.length) return;
    const colour = colours();
    const first = this.candles[0].time;
    const arrows = [...this.signals.values()]
      .filter((one) => one.candle / 1000 >= first)
      .sort((a, b) => a.candle - b.candle || a.id - b.id)
      .map((one) => ({
        id: String(one.id),
        time: one.candle / 1000,
        position: one.side === "LONG" ? "belowBar" : "aboveBar",
        shape: one.side === "LONG" ? "arrowUp" : "arrowDown",
        color: one.id === this.chosen ? colour.fg : one.side === "LONG" ? colour.up : colour.down,
        size: one.id === this.chosen ? 1.8 : this.chosen ? 0.5 : 0.8, // the chosen one stands out
      }));
    this.markers.setMarkers(arrows);
  }

  /** Say in words what the chart shows. */
  tell() {
    const words = document.getElementById("chart-words");
    const last = this.candles.at(-1);
    const part = (name) => words.querySelector(`[data-part=${name}]`);
    if (this.newest) {
      part("close").textContent = written(last.close, digitsOf(last.close));
      part("time").textContent = utc(last.time);
      const day = this.candles.find((one) => one.time >= last.time - 24 * 60 * MINUTE); // across a gap it is not so long ago
      const told = day === last ? "" : `${change(last.close / day.close - 1)} in ${span(last.time - day.time)}`;
      part("change").textContent = told;
    }
    const number = this.signals.size;
    const from = utc(this.candles[0].time);
    part("signals").textContent = `${number} signal${number === 1 ? "" : "s"} drawn from ${from} to ${utc(last.time)}.`;
  }

  /** Take a candle that has just closed. */
  async take(candle) {
    const last = this.candles.at(-1);
    const time = candle.time / 1000;
    if (!this.newest || !last || time <= last.time) return;
    if (time > last.time + MINUTE) {
      // some were missed, while the line was down
      await this.renew();
      return;
    }
    const row = { ...candle, time };
    this.candles.push(row);
    this.series.update(row);
    this.volume.update({ time, value: row.volume });
    this.tell();
  }

  /** Show a signal: its card, and its plan on the candles. */
  async choose(id) {
    const address = new URL(location.href);
    address.searchParams.set("signal", id);
    address.hash = `signal-${id}`;
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const market = page.getElementById("chart")?.dataset.symbol;
    if (market && market !== this.symbol) {
      location.assign(address);
      return;
    }
    const card = document.getElementById("card");
    card.innerHTML = page.getElementById("card").innerHTML;
    history.replaceState(null, "", address);
    await this.read();
    say(`${document.getElementById("card-title").textContent.trim()} is drawn on the chart`);
  }

  /** Draw what the card tells of. */
  async read() {
    const plan = JSON.parse(document.getElementById("card-title").dataset.plan || "null");
    if (!plan || plan.symbol !== this.symbol) return;
    const fresh = this.chosen !== plan.id;
    this.chosen = plan.id;
    this.plan.show(plan);
    for (const row of document.querySelectorAll("table.signals tr[id]")) {
      if (row.id === `signal-${plan.id}`) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    if (fresh) await this.bring(plan);
    this.signals.set(plan.id, plan);
    this.mark();
  }

  /** Bring a signal into sight; of an old one other candles are loaded. */
  async bring(plan) {
    const time = plan.candle / 1000;
    if (!this.candles.length || time < this.candles[0].time || time > this.candles.at(-1).time) {
      this.candles = [];
      this.signals.clear();
      await this.load();
      if (this.candles.length && time < this.candles[0].time) {
        this.newest = false;
        this.candles = [];
        await this.load(plan.candle + 1000 * MINUTE * 300);
      } else {
        this.newest = true;
      }
    }
    const scale = this.chart.timeScale();
    const at = scale.timeToIndex(time, true);
    if (at !== null) scale.setVisibleLogicalRange({ from: at - 60, to: at + 60 });
  }

  key(event) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range || event.ctrlKey || event.metaKey || event.altKey) return;
    const wide = range.to - range.from;
    const move = (by) => scale.setVisibleLogicalRange({ from: range.from + by, to: range.to + by });
    const zoom = (by) => scale.setVisibleLogicalRange({ from: range.to - Math.min(Math.max(wide * by, 10), 20_000), to: range.to });
    const keys = {
      ArrowLeft: () => move(-wide / 10),
      ArrowRight: () => move(wide / 10),
      PageUp: () => move(-wide),
      PageDown: () => move(wide),
      "+": () => zoom(0.8),
      "=": () => zoom(0.8),
      "-": () => zoom(1.25),
      Home: () => move(-range.from),
      End: () => this.end(),
      ArrowUp: () => this.step(1),
      ArrowDown: () => this.step(-1),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  async end() {
    if (!this.newest) {
      this.newest = true;
      this.candles = [];
      await this.load();
    }
    this.chart.timeScale().scrollToRealTime();
  }

  /** Go to the next signal in time, or to the one before. */
  step(by) {
    const order = [...this.signals.values()].sort((a, b) => a.candle - b.candle || a.id - b.id);
    if (!order.length) {
      say("no signal is drawn");
      return;
    }
    const at = order.findIndex((one) => one.id === this.chosen);
    const next = at < 0 ? order.at(-1) : order[at + by];
    if (next) this.choose(next.id);
    else say(by > 0 ? "this is the newest" : "this is the oldest that is loaded");
  }
}

function change(share) {
  return `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(2)} %`;
}

/** Return how long something of less than two days is, as `render.span` does. */
function span(seconds) {
  return seconds >= 60 * MINUTE ? `${Math.floor(seconds / (60 * MINUTE))} h` : `${Math.floor(seconds / MINUTE)} min`;
}

/** Begin: the chart, and the signal that the address names. */
async function begin(box) {
  const market = new MarketChart(box);
  document.addEventListener("candle", ({ detail }) => {
    if (detail.symbol === market.symbol) market.take(detail);
  });
  document.addEventListener("again", () => market.renew().catch(() => {}));
  document.addEventListener("signals", () => market.candles.length && market.find().catch(() => {}));
  document.addEventListener("refreshed", () => market.read());
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-signal]");
    if (!link || link.dataset.symbol !== market.symbol || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    market.choose(Number(link.dataset.signal));
    box.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  });
  try {
    await market.load();
    const named = Number(location.hash.match(/^#signal-(\d+)$/)?.[1]);
    if (named && !document.getElementById("card-title").dataset.plan) await market.choose(named);
    else await market.read();
  } catch (error) {
    document.querySelector("#chart-words [data-part=signals]").textContent = `The chart cannot be drawn: ${error.message}`;
  }
}

const box = document.getElementById("chart");
if (box) begin(box);
