// Lines over time: sparklines in lists, and charts with axes, a cursor line and a table of the same figures.

import { h, s, select, setAttribute, setText } from './dom.js';
import { clock, localTime, minuteClock, utcTime } from './format.js';

const HEIGHT = 150;
const LEFT = 62;
const BOTTOM = 20;
const TOP = 8;
const COLUMNS = 240;
const TABLE_ROWS = 30;
const SPARK_MS = 120_000;
const SPANS = [
  [60_000, 'Last minute'], [300_000, 'Last 5 minutes'], [900_000, 'Last 15 minutes'], [3_600_000, 'Last hour'], [21_600_000, 'Last 6 hours'],
  [86_400_000, 'Last day'],
];

/** How much history charts can show, in words. */
export const PAST = 'The server keeps the last day in its memory, in steps of 5 seconds for 10 minutes, 30 seconds for an hour, and 5 minutes for the rest. A restart forgets it.';

/** The time span that the user chose last. */
let chosenSpan = 60_000;

/** Makes the selector of how far back charts go. */
export function spanChoice(onchange) {
  const element = select(SPANS, {
    'aria-label': 'Time that the charts show', value: chosenSpan, onchange: () => { chosenSpan = Number(element.value); onchange(); },
  });
  return element;
}

/** Makes a sparkline of the last two minutes. */
export function sparkline(kind) {
  const area = s('path', { class: `area ${kind}` });
  const line = s('path', { class: `line ${kind}` });
  const element = s('svg', { class: 'spark', viewBox: '0 0 96 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, area, line);
  return {
    element,
    update(points) {
      const last = points.at(-1)?.[0] ?? 0;
      const shown = points.filter(([time, value]) => time >= last - SPARK_MS && !Number.isNaN(value));
      const top = Math.max(1, ...shown.map(([, value]) => value));
      const x = (time) => (96 - ((last - time) / SPARK_MS) * 96).toFixed(1);
      const path = shown.map(([time, value]) => `${x(time)} ${(22 - (value / top) * 19).toFixed(1)}`);
      setAttribute(line, 'd', path.length > 1 ? `M${path.join('L')}` : 'M0 22H96');
      setAttribute(area, 'd', path.length > 1 ? `M${x(shown[0][0])} 24L${path.join('L')}L96 24Z` : '');
    },
  };
}

/** Returns a round bottom, top and step for an axis that covers the values and 0, such as 0, 5, 10. For bytes, steps are powers of two. */
function scale(numbers, isBytes) {
  const [least, greatest] = numbers.reduce(([low, high], number) => [Math.min(low, number), Math.max(high, number)], [0, 0]);
  const far = Math.max(greatest, -least);
  if (far === 0) return { bottom: 0, top: 1, step: 1 };
  const base = isBytes ? 2 : 10;
  const power = base ** Math.floor(Math.log(far / 2) / Math.log(base));
  const step = (isBytes ? [1, 2] : [1, 2, 5, 10]).map((factor) => factor * power).find((each) => far / each <= 3) ?? power * base;
  return { bottom: Math.floor(least / step) * step, top: Math.ceil(greatest / step) * step, step };
}

const isNumber = ([, value]) => !Number.isNaN(value);

/** Averages points in columns, so that a long span draws no more points than a short one. */
function columns(points, from, to) {
  if (points.length <= COLUMNS) return points;
  const all = new Map();
  for (const point of points) {
    const column = Math.floor(((point[0] - from) / (to - from)) * COLUMNS);
    if (!all.has(column)) all.set(column, []);
    all.get(column).push(point);
  }
  const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  return [...all.values()].map((column) => [mean(column.map(([time]) => time)), mean(column.filter(isNumber).map(([, value]) => value))]);
}

/** Splits a line at missing values. */
function parts(points) {
  const found = [[]];
  for (const point of points) {
    if (isNumber(point)) found.at(-1).push(point);
    else if (found.at(-1).length > 0) found.push([]);
  }
  return found.filter((part) => part.length > 0);
}

/**
 * Makes a chart.
 *
 * `lines` have a `kind`, which gives the colour, a `name`, and a `field` of the history. `format` formats a value.
 * Without `isFilled`, the area below the lines is empty.
 */
export function chart({ title, lines, format, isBytes, note, isFilled = true }) {
  const plot = s('g');
  const cursor = s('line', { class: 'cursor', y1: TOP, y2: HEIGHT - BOTTOM, visibility: 'hidden' });
  const svg = s('svg', { class: 'chart-plot', role: 'img', height: HEIGHT }, plot, cursor);
  const values = lines.map((line) => {
    const value = h('span', { class: 'legend-value' }, '–');
    return { value, element: h('span', { class: `legend ${line.kind}` }, h('i', { 'aria-hidden': 'true' }), `${line.name} `, value) };
  });
  const reading = h('p', { class: 'reading', 'aria-hidden': 'true' });
  const tableBody = h('tbody');
  const table = h('details', { class: 'as-table', ontoggle: () => fillTable() },
    h('summary', {}, 'As a table'),
    h('div', { class: 'table-scroll', tabindex: '0', role: 'region', 'aria-label': `${title}, as a table` }, h('table', { class: 'plain' },
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Time'), lines.map((line) => h('th', { scope: 'col' }, line.name)))),
      tableBody)));
  const element = h('section', { class: 'card chart' },
    h('div', { class: 'chart-head' }, h('h3', {}, title), h('div', { class: 'legends' }, values.map((value) => value.element))),
    svg, reading, note && h('p', { class: 'hint' }, note), table);
  let width = 560;
  let shown = { from: 0, to: 1, data: lines.map(() => []) };

  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    const time = shown.from + ((x - LEFT) / (width - LEFT)) * (shown.to - shown.from);
    const nearest = shown.data[0].reduce((best, point) => (best && Math.abs(best[0] - time) <= Math.abs(point[0] - time) ? best : point), undefined);
    if (!nearest) return;
    const date = new Date(nearest[0]);
    const place = LEFT + ((nearest[0] - shown.from) / (shown.to - shown.from)) * (width - LEFT);
    setAttribute(cursor, 'x1', place);
    setAttribute(cursor, 'x2', place);
    setAttribute(cursor, 'visibility', 'visible');
    const texts = lines.map((line, index) => `${line.name} ${valueAt(index, nearest[0])}`);
    setText(reading, `${clock(date)} (${utcTime(date).slice(11, 19)} UTC): ${texts.join(', ')}`);
  });
  svg.addEventListener('pointerleave', () => {
    setAttribute(cursor, 'visibility', 'hidden');
    setText(reading, '');
  });

  function valueAt(index, time) {
    const point = shown.data[index].find((each) => each[0] === time);
    return point && isNumber(point) ? format(point[1]) : '–';
  }

  function fillTable() {
    if (!table.open) return;
    const rows = shown.data[0].slice(-TABLE_ROWS).reverse();
    tableBody.replaceChildren(...rows.map(([time]) => {
      const date = new Date(time);
      return h('tr', {}, h('td', { title: utcTime(date) }, localTime(date).slice(0, 19)),
        shown.data.map((_, index) => h('td', {}, valueAt(index, time))));
    }));
  }

  return {
    element,
    update(history, now, spanMs) {
      width = svg.clientWidth || width;
      setAttribute(svg, 'viewBox', `0 0 ${width} ${HEIGHT}`);
      const from = now - spanMs;
      const data = lines.map((line) => columns(history.since(from, line.field, spanMs), from, now));
      shown = { from, to: now, data };
      const { bottom, top, step } = scale(data.flatMap((points) => points.filter(isNumber).map(([, value]) => value)), isBytes);
      const x = (time) => (LEFT + ((time - from) / spanMs) * (width - LEFT)).toFixed(1);
      const y = (value) => (TOP + ((top - value) / (top - bottom)) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
      const elements = [];
      for (let value = bottom; value <= top + step / 1_000; value += step) {
        elements.push(s('line', { class: 'grid', x1: LEFT, x2: width, y1: y(value), y2: y(value) }));
        elements.push(s('text', { class: 'tick', x: LEFT - 6, y: Number(y(value)) + 4, 'text-anchor': 'end' }, format(value)));
      }
      const steps = width < 420 ? 2 : 4;
      for (let part = 0; part <= steps; part += 1) {
        const date = new Date(from + (spanMs * part) / steps);
        const anchor = part === 0 ? 'start' : part === steps ? 'end' : 'middle';
        const text = spanMs < 600_000 ? clock(date) : minuteClock(date);
        elements.push(s('text', { class: 'tick', x: LEFT + ((width - LEFT) * part) / steps, y: HEIGHT - 5, 'text-anchor': anchor }, text));
      }
      data.forEach((points, index) => {
        for (const part of parts(points)) {
          const path = part.map(([time, value]) => `${x(time)} ${y(value)}`).join('L');
          const [[first], [last]] = [part[0], part.at(-1)];
          if (isFilled) elements.push(s('path', { class: `area ${lines[index].kind}`, d: `M${x(first)} ${y(0)}L${path}L${x(last)} ${y(0)}Z` }));
          elements.push(s('path', { class: `line ${lines[index].kind}`, d: `M${path}${part.length === 1 ? `L${path}` : ''}` }));
        }
      });
      plot.replaceChildren(...elements);
      const summary = lines.map((line, index) => {
        const numbers = data[index].filter(isNumber).map(([, value]) => value);
        const latest = data[index].at(-1);
        const now = latest && isNumber(latest) ? format(latest[1]) : '–';
        setText(values[index].value, now);
        if (numbers.length === 0) return `${line.name}: no figures yet`;
        return `${line.name}: now ${now}, at most ${format(Math.max(...numbers))}`;
      });
      setAttribute(svg, 'aria-label', `${title}. ${summary.join('. ')}.`);
      if (table.open && !table.contains(document.activeElement)) fillTable();
    },
  };
}
