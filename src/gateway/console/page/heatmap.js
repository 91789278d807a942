// Hash keys over time: when each shard was created and closed, and how busy it was.

import { describeActivity, server } from './api.js';
import { h, setAttribute, setText } from './dom.js';
import { bytesRate, clock, counted, minuteClock, shardName, shardNumber, utcTime } from './format.js';

const HEIGHT = 220;
const EVERY_MS = 30_000;
const EVENTS_MAX = 100;
/** The server keeps more shards than the picture can show separately. Above this number, no lines are drawn between them. */
const LINED_MAX = 80;

/** Converts a level, the one byte that the server keeps for each step, to bytes per second. */
const rateOf = (level) => (level === 0 ? 0 : 2 ** ((level - 1) / 6));

function decode(line) {
  const levels = Object.entries(line.Levels).map(([id, text]) => [id, Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))]);
  return { step: line.StepMillis, end: line.EndMillis, levels: new Map(levels) };
}

/** Makes a pattern of diagonal lines. */
function hatch(colour) {
  const tile = h('canvas', { width: 6, height: 6 });
  const paper = tile.getContext('2d');
  paper.strokeStyle = colour;
  paper.moveTo(0, 6);
  paper.lineTo(6, 0);
  paper.stroke();
  return paper.createPattern(tile, 'repeat');
}

/** Returns what happened to the shards since a time, newest first. */
function eventsOf(shards, stats, from) {
  const events = [];
  for (const shard of shards.values()) {
    const made = stats.get(shard.id)?.CreatedMillis;
    if (made === undefined || made < from || shard.parents.length === 0) continue;
    const parents = shard.parents.map(shardNumber).join(' and ');
    events.push({ time: made, text: shard.parents.length === 2 ? `${shardName(shard.id)} came from shards ${parents}, which were merged.` : `${shardName(shard.id)} came from shard ${parents}, which was split.` });
  }
  return events.sort((a, b) => b.time - a.time);
}

/** Makes the picture. */
export function heatmap({ name, onselect }) {
  const canvas = h('canvas', { class: 'heatmap', role: 'img', height: HEIGHT });
  const axis = h('div', { class: 'axis', 'aria-hidden': 'true' });
  const reading = h('p', { class: 'reading', 'aria-hidden': 'true' });
  const list = h('ul', { class: 'plain-list' });
  const events = h('details', { class: 'as-table', ontoggle: () => fillEvents() }, h('summary', {}, 'Splits and merges in this time'), h('div', { class: 'table-scroll', tabindex: '0', role: 'region', 'aria-label': 'Splits and merges' }, list));
  const [heats, unknown] = [[0, 1, 2, 3, 4, 5].map((level) => h('i', { class: `l${level}` })), h('i', { class: 'unknown' })];
  const legend = h('div', { class: 'heat-legend', 'aria-hidden': 'true' }, h('span', {}, 'not known'), unknown, h('span', {}, 'idle'), heats, h('span', {}, server.limits.writeBytes ? 'at the limit' : 'busiest'));
  const element = h('section', { class: 'card' }, h('div', { class: 'chart-head' }, h('h3', {}, 'Hash keys over time'), legend),
    canvas, axis, reading, h('p', { class: 'hint' }, 'The first hash key is at the top, the last one at the bottom.'), events);
  let shards = new Map();
  let stats = new Map();
  let lines = [];
  let [now, spanMs] = [Date.now(), 60_000];
  let asked = -Infinity;
  /** When the picture was last drawn, and from what. */
  let drawn = { time: -Infinity };

  const from = () => now - spanMs;
  const lineOf = () => (spanMs > 3_600_000 ? lines.at(-1) : lines[0]);

  /** Returns the start and the end of a shard in the picture. */
  function lifeOf(shard) {
    const { CreatedMillis: made, ClosedMillis: closed } = stats.get(shard.id) ?? {};
    if (made === undefined) return [0, 0];
    return [Math.max(made, from()), Math.min(closed ?? now, now)];
  }

  /** Draws the picture, unless it would not change. */
  function draw() {
    const width = canvas.clientWidth || 600;
    const theme = getComputedStyle(element).backgroundColor;
    const what = [width, spanMs, theme, shards, lines];
    if (now - drawn.time < spanMs / width && what.every((each, at) => each === drawn.what[at])) return;
    drawn = { time: now, what };
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = HEIGHT * scale;
    const paper = canvas.getContext('2d');
    paper.scale(scale, scale);
    const colours = heats.map((each) => getComputedStyle(each).backgroundColor);
    const slanting = hatch(getComputedStyle(unknown).color);
    const x = (time) => ((time - from()) / spanMs) * width;
    const line = lineOf();
    const busiest = Math.max(1, ...(line ? [...line.levels.values()].map((levels) => rateOf(Math.max(0, ...levels))) : []));
    const limit = server.limits.writeBytes || busiest;
    const colourOf = (level) => {
      const load = Math.min(1, rateOf(level) / limit);
      return colours[load <= 0.001 ? 0 : Math.min(5, 1 + Math.floor(load * 5))];
    };
    for (const shard of shards.values()) {
      const [begin, end] = lifeOf(shard);
      if (end <= begin) continue;
      const fill = (colour, left, right) => {
        paper.fillStyle = colour;
        paper.fillRect(x(left), shard.from * HEIGHT, x(right) - x(left), Math.max(1, (shard.to - shard.from) * HEIGHT));
      };
      const levels = line?.levels.get(shard.id) ?? [];
      const first = levels.length > 0 ? line.end - levels.length * line.step : end;
      // The time before the server began to measure.
      fill(slanting, begin, Math.min(end, Math.max(begin, first)));
      for (let at = 0; at < levels.length;) {
        const begun = at;
        const colour = colourOf(levels[at]);
        while (at < levels.length && colourOf(levels[at]) === colour) at += 1;
        const left = Math.max(begin, first + begun * line.step);
        // The last step lasts until the next one arrives.
        const right = Math.min(end, at === levels.length ? now : first + at * line.step);
        if (right > left) fill(colour, left, right);
      }
    }
    if (shards.size <= LINED_MAX) {
      paper.strokeStyle = theme;
      paper.lineWidth = 1.5;
      for (const shard of shards.values()) {
        const [begin, end] = lifeOf(shard);
        if (end > begin) paper.strokeRect(x(begin), shard.from * HEIGHT, x(end) - x(begin), (shard.to - shard.from) * HEIGHT);
      }
    }
    const parts = width < 420 ? 2 : 4;
    const times = Array.from({ length: parts + 1 }, (_, part) => new Date(from() + (spanMs * part) / parts));
    axis.replaceChildren(...times.map((date) => h('span', {}, spanMs < 600_000 ? clock(date) : minuteClock(date))));
    const found = eventsOf(shards, stats, from());
    setAttribute(canvas, 'aria-label', `Hash keys over time. ${counted(found.length, 'shard')} came from splits and merges in this time. They are listed below.`);
    if (events.open && !events.contains(document.activeElement)) fillEvents();
  }
  new ResizeObserver(() => draw()).observe(canvas);

  function fillEvents() {
    if (!events.open) return;
    const found = eventsOf(shards, stats, from()).slice(0, EVENTS_MAX);
    list.replaceChildren(...(found.length === 0 ? [h('li', {}, 'None.')] : found.map(({ time, text }) => {
      const date = new Date(time);
      return h('li', { title: utcTime(date) }, `${clock(date)} (${utcTime(date).slice(11, 19)} UTC): ${text}`);
    })));
  }

  /** Returns the shard and the time at the position of the pointer. */
  function at(event) {
    const box = canvas.getBoundingClientRect();
    const time = from() + ((event.clientX - box.left) / box.width) * spanMs;
    const key = (event.clientY - box.top) / box.height;
    const shard = [...shards.values()].find((each) => {
      const [begin, end] = lifeOf(each);
      return each.from <= key && key < each.to && begin <= time && time < end;
    });
    return { time, shard };
  }
  canvas.addEventListener('pointermove', (event) => {
    const { time, shard } = at(event);
    const line = lineOf();
    const levels = (shard && line?.levels.get(shard.id)) ?? [];
    const index = levels.length - 1 - Math.floor((line?.end - time) / line?.step);
    const level = levels[Math.min(levels.length - 1, index)];
    const date = new Date(time);
    setText(reading, shard ? `${clock(date)} (${utcTime(date).slice(11, 19)} UTC): ${shardName(shard.id)}, ${level === undefined ? 'not known' : `${bytesRate(rateOf(level))} in`}` : '');
  });
  canvas.addEventListener('pointerleave', () => setText(reading, ''));
  canvas.addEventListener('click', (event) => {
    const { shard } = at(event);
    if (shard) onselect(shard.id);
  });

  /** Asks the server for the history that it keeps, which changes every 30 seconds. */
  async function ask() {
    if (performance.now() - asked < EVERY_MS) return;
    asked = performance.now();
    try {
      const answer = await describeActivity({ StreamName: name, IncludeShardHistory: true });
      lines = answer.ShardHistory.map(decode);
      draw();
    } catch {
      // The page makes the same request itself, and shows its errors.
    }
  }

  return {
    element,
    setShards(next) {
      shards = next;
    },
    update(time, span, nextStats) {
      [now, spanMs, stats] = [time, span, nextStats ?? new Map()];
      element.hidden = !nextStats;
      if (nextStats) ask();
      draw();
    },
  };
}
