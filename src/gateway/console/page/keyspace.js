// The hash-key space as a picture: who owns what, how busy each shard is, and which shards came before.

import { h, s, setAttribute, setText } from './dom.js';
import { bytes, bytesRate, count, counted, duration, localTime, percent, rate, shardName, shardNumber, utcTime } from './format.js';
import { hexKey, openShards } from './shards.js';
import { server } from './api.js';

const NOW_HEIGHT = 64;
const ROW = 22;
const ROWS_MAX = 7;

/** Returns how busy a shard is, from 0 to 1: relative to its limit if it has one, otherwise to the busiest shard. */
function loadOf(stats, busiest) {
  const now = stats?.now;
  if (!now || now.inBytes === undefined) return 0;
  const { writeBytes, writeRecords } = server.limits;
  if (writeBytes || writeRecords) {
    return Math.min(1, Math.max(writeBytes ? now.inBytes / writeBytes : 0, writeRecords ? now.inRecords / writeRecords : 0));
  }
  return busiest > 0 ? now.inBytes / busiest : 0;
}

function level(load) {
  return load <= 0.001 ? 0 : Math.min(5, 1 + Math.floor(load * 5));
}

/** Returns a time in the user's time zone, followed by UTC. */
function when(millis) {
  if (millis === undefined) return '–';
  const date = new Date(millis);
  return `${localTime(date).slice(0, 19)} (${utcTime(date).slice(11, 16)} UTC)`;
}

/** Describes the limits of a shard in words. */
function limitsInWords() {
  const { writeBytes, writeRecords, readBytes, readCalls } = server.limits;
  if (!writeBytes && !writeRecords && !readBytes && !readCalls) return 'This server does not limit what a shard takes and hands out.';
  const of = (parts) => parts.filter(Boolean).join(' and ') || 'what comes';
  const taken = of([writeBytes && bytes(writeBytes), writeRecords && counted(writeRecords, 'record')]);
  const handedOut = of([readBytes && bytes(readBytes), readCalls && counted(readCalls, 'call')]);
  return `Each shard takes ${taken} a second, and hands out ${handedOut} a second.`;
}

/** Makes the picture. `actions` returns what can be done with a shard, given the open shards. */
export function keyspace({ actions }) {
  const picture = s('svg', { class: 'keyspace', role: 'img', preserveAspectRatio: 'none' });
  new ResizeObserver(() => draw()).observe(picture);
  const cursor = h('input', { type: 'range', min: 0, max: 0, step: 1, value: 0, class: 'shard-cursor', 'aria-label': 'Choose a shard, in the order of hash keys' });
  const detail = h('div', { class: 'shard-detail' });
  const summary = h('p', { class: 'hint keyspace-summary' });
  const legend = h('div', { class: 'heat-legend', 'aria-hidden': 'true' }, h('span', {}, 'idle'), [0, 1, 2, 3, 4, 5].map((at) => h('i', { class: `heat l${at}` })),
    h('span', {}, server.limits.writeBytes ? 'at the limit' : 'busiest'));
  const axis = h('div', { class: 'axis', 'aria-hidden': 'true' }, ['0', '¼', '½', '¾', '2¹²⁸'].map((text) => h('span', {}, text)));
  const element = h('section', { class: 'card', 'aria-label': 'Hash keys' },
    h('div', { class: 'chart-head' }, h('h2', {}, 'Hash-key space'), legend),
    picture, axis, cursor, detail, summary);
  let shards = new Map();
  let open = [];
  let selected;
  let rects = new Map();
  let stats = new Map();

  cursor.addEventListener('input', () => select(open[Number(cursor.value)]?.id));

  function select(id) {
    if (!id || !shards.has(id)) return;
    setAttribute(rects.get(selected) ?? document.createElement('i'), 'data-selected', undefined);
    selected = id;
    setAttribute(rects.get(id) ?? document.createElement('i'), 'data-selected', 'true');
    const at = open.findIndex((shard) => shard.id === id);
    if (at >= 0) cursor.value = at;
    rebuildDetail();
  }

  function draw() {
    const width = picture.clientWidth || 1_000;
    const depths = [...shards.values()].map((shard) => shard.depth);
    const deepest = Math.max(0, ...depths);
    const first = Math.max(0, deepest - ROWS_MAX);
    const height = (deepest - first) * ROW + NOW_HEIGHT;
    setAttribute(picture, 'viewBox', `0 0 ${width} ${height}`);
    picture.setAttribute('height', height);
    const gap = open.length > 150 ? 0 : open.length > 60 ? 0.7 : 2;
    rects = new Map();
    const parts = [];
    for (const shard of shards.values()) {
      const last = shard.isOpen ? deepest : Math.min(deepest, ...shard.children.map((id) => shards.get(id).depth)) - 1;
      const bottom = shard.isOpen ? height : Math.max(0, last + 1 - first) * ROW;
      const top = Math.max(0, shard.depth - first) * ROW;
      if (bottom <= top) continue;
      const rect = s('rect', {
        x: (shard.from * width + gap / 2).toFixed(2), y: top + 1, width: Math.max(0.5, (shard.to - shard.from) * width - gap).toFixed(2),
        height: bottom - top - 2, rx: open.length > 60 ? 0 : 4, class: shard.isOpen ? 'heat l0' : 'closed', 'data-shard': shard.id,
      });
      rect.append(s('title', {}, shardName(shard.id)));
      rects.set(shard.id, rect);
      parts.push(rect);
      if (shard.isOpen && (shard.to - shard.from) * width > 34) {
        parts.push(s('text', { x: ((shard.from + shard.to) / 2) * width, y: height - NOW_HEIGHT / 2 + 5, 'text-anchor': 'middle', class: 'shard-label' }, shardNumber(shard.id)));
      }
    }
    picture.replaceChildren(...parts);
    setAttribute(rects.get(selected) ?? document.createElement('i'), 'data-selected', 'true');
    paint();
  }

  /** Colours the open shards, and returns how many are above half of their limit. */
  function paint() {
    const busiest = Math.max(0, ...open.map((shard) => stats.get(shard.id)?.now.inBytes ?? 0));
    let busy = 0;
    for (const shard of open) {
      const load = loadOf(stats.get(shard.id), busiest);
      if (load > 0.5) busy += 1;
      const rect = rects.get(shard.id);
      if (rect) setAttribute(rect, 'class', `heat l${level(load)}`);
    }
    return busy;
  }
  picture.addEventListener('click', (event) => select(event.target.getAttribute('data-shard')));

  let detailRows = [];
  function rebuildDetail() {
    const shard = shards.get(selected);
    if (!shard) {
      detail.replaceChildren();
      return;
    }
    const row = (name, value, kind) => {
      const shown = h('dd', {}, value ? value() : '');
      if (value) detailRows.push(() => setText(shown, value()));
      return h('div', { class: kind }, h('dt', {}, name), shown);
    };
    const now = () => stats.get(shard.id);
    detailRows = [];
    const links = (ids) => (ids.length === 0 ? '–' : ids.map(shardNumber).join(', '));
    detail.replaceChildren(
      h('div', { class: 'shard-detail-head' }, h('h3', {}, shard.id), h('span', { class: `badge ${shard.isOpen ? 'active' : ''}` }, shard.isOpen ? 'Open' : 'Closed'),
        h('div', { class: 'actions' }, actions(shard, open))),
      h('dl', { class: 'facts' },
        row('Share of keys', () => percent(shard.to - shard.from)),
        row('In', () => bytesRate(now()?.now.inBytes)),
        row('Records in', () => rate(now()?.now.inRecords)),
        row('Out', () => bytesRate(now()?.now.outBytes)),
        row('Records', () => (now() ? count(now().RecordCount) : '–')),
        row('On disk', () => (now() ? bytes(now().DiskBytes) : '–')),
        row('Readers behind', () => (now()?.IteratorAgeMilliseconds === undefined ? 'no reader' : duration(now().IteratorAgeMilliseconds))),
        row('Throttled', () => (now() ? `${count(now().WriteThrottledRecords)} in, ${count(now().ReadThrottledCalls)} out` : '–')),
        row('Created', () => when(now()?.CreatedMillis), 'two'),
        row('Closed', () => (shard.isOpen ? '–' : when(now()?.ClosedMillis)), shard.isOpen ? undefined : 'two'),
        row('Parents', () => links(shard.parents)),
        row('Children', () => links(shard.children))),
      h('p', { class: 'mono range-text' }, `${hexKey(shard.start)} – ${hexKey(shard.end)}`));
  }

  return {
    element,
    select,
    /** Replaces the shards: at first, and after a split or a merge. */
    setShards(next) {
      shards = next;
      open = openShards(shards);
      cursor.max = Math.max(0, open.length - 1);
      draw();
      if (!shards.has(selected) || !shards.get(selected).isOpen) selected = open[0]?.id;
      select(selected);
    },
    /** Shows how busy the shards are now. */
    update(next) {
      stats = next ?? new Map();
      const busy = paint();
      detailRows.forEach((refresh) => refresh());
      const shard = shards.get(selected);
      if (shard) setAttribute(cursor, 'aria-valuetext', `${shardName(shard.id)}, ${percent(shard.to - shard.from)} of the keys, ${bytesRate(stats.get(shard.id)?.now.inBytes)} in`);
      const closed = shards.size - open.length;
      setText(summary, `${count(open.length)} open and ${count(closed)} closed shards. Closed ones, above their children, keep their records until retention passes. ${limitsInWords()} ${server.limits.writeBytes ? `${count(busy)} ${busy === 1 ? 'is' : 'are'} above half of that.` : ''}`);
      setAttribute(picture, 'aria-label', `${open.length} open shards share the hash keys; ${closed} closed ones came before. The table of shards has the same figures.`);
    },
  };
}
