// A chart of a column of a live query over time: one line, or one for each value of another column.

import { visible } from './bytes.js';
import { chart, spanChoice } from './chart.js';
import { h } from './dom.js';
import { isNumeric } from './result.js';

const KINDS = ['in', 'out', 'lag', 'throttled'];
const POINTS = 20_000;
const ALL = 'All rows';
const FORMAT = new Intl.NumberFormat('en', { maximumSignificantDigits: 4, notation: 'compact' });

const isTime = (type) => type === 'TIMESTAMP';

/** Converts a time from an answer to milliseconds. A time without a zone is in UTC. */
function millis(text) {
  return Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text}Z`);
}

export function seriesChart() {
  let columns = [];
  let rows = [];
  let drawn;
  let shown;
  const value = h('select', { 'aria-label': 'Column that the chart shows', onchange: () => make() });
  const by = h('select', { 'aria-label': 'One line for each value of', onchange: () => make() });
  const span = spanChoice(() => draw());
  const place = h('div');
  const element = h('section', { class: 'query-chart', hidden: true },
    h('div', { class: 'section-head' }, h('h2', {}, 'Chart'), h('span', { class: 'spring' }), value, by, span), place);

  /** The last points of each line, by its name. */
  let lines = new Map();
  let others = new Set();
  let last = { time: 0, at: 0 };

  function make() {
    lines = new Map();
    others = new Set();
    last = { time: 0, at: 0 };
    shown = undefined;
    rows.forEach(([row, time]) => put(row, time));
    draw();
  }

  function put(row, heard) {
    const at = Number(value.value);
    const number = row[at] === null ? NaN : Number(row[at]);
    const clock = columns.findLastIndex(({ Type }) => isTime(Type));
    const time = clock === -1 ? heard : millis(row[clock]);
    if (Number.isNaN(time)) return;
    if (time > last.time) last = { time, at: heard };
    const name = by.value === '' ? ALL : String(row[Number(by.value)]);
    if (!lines.has(name)) {
      if (lines.size === KINDS.length) {
        if (others.size === 0) shown = undefined;
        others.add(name);
        return;
      }
      lines.set(name, []);
      shown = undefined;
    }
    const points = lines.get(name);
    points.push([time, number]);
    if (points.length > POINTS) points.splice(0, points.length - POINTS);
  }

  function draw() {
    if (element.hidden || lines.size === 0) return;
    if (!shown) {
      const named = [...lines.keys()];
      const title = visible(columns[Number(value.value)].Name);
      shown = chart({
        title, format: (number) => FORMAT.format(number),
        lines: named.map((name, at) => ({ kind: KINDS[at], name: name === ALL && by.value === '' ? title : visible(name).slice(0, 40), field: name })),
        note: others.size > 0 ? `The first ${KINDS.length} values have a line each. There are others.` : undefined,
        isFilled: named.length === 1,
      });
      place.replaceChildren(shown.element);
    }
    // Points later than this are not shown yet, and the chart moves on while no rows arrive.
    const now = last.time + Math.max(0, Date.now() - last.at);
    shown.update({
      since: (from, name) => lines.get(name).filter(([time]) => time >= from && time <= now).sort(([a], [b]) => a - b),
    }, now, Number(span.value));
  }

  return {
    element,
    hide() {
      element.hidden = true;
      rows = [];
      lines = new Map();
      shown = undefined;
    },
    /** Starts a chart with the columns of the rows to come. Without a numeric column, there is no chart. */
    begin(all) {
      columns = all;
      rows = [];
      const numeric = columns.map(({ Name, Type }, at) => [at, visible(Name), isNumeric(Type)]).filter(([, , is]) => is);
      const named = columns.map(({ Name, Type }, at) => [at, `By ${visible(Name)}`, Type === 'VARCHAR']).filter(([, , is]) => is);
      element.hidden = numeric.length === 0;
      // Columns that every record has say little about the data.
      const preferred = numeric.find(([at]) => !columns[at].Name.startsWith('_')) ?? numeric[0];
      const options = (pairs) => pairs.map(([at, text]) => h('option', { value: at }, text));
      value.replaceChildren(...options(numeric));
      if (preferred) value.value = preferred[0];
      by.replaceChildren(...options([['', 'One line'], ...named]));
      by.value = '';
      by.hidden = named.length === 0;
      make();
    },
    /** Adds a row and the time at which it arrived. */
    add(row, time) {
      if (element.hidden) return;
      rows.push([row, time]);
      if (rows.length > POINTS) rows.splice(0, POINTS / 2);
      put(row, time);
    },
    draw,
  };
}
