// The rows of a query as a table, page by page.

import { visible } from './bytes.js';
import { h, setText } from './dom.js';
import { count, counted } from './format.js';

const PAGE = 50;
const CELL = 1_000;
const LINE = 32;

/** Returns whether values of a type are numbers. */
export function isNumeric(type) {
  return /^(TINYINT|SMALLINT|INTEGER|BIGINT|REAL|DOUBLE|DECIMAL)/.test(type) && !type.endsWith('[]');
}

function cell(value, isNumber) {
  if (value === null) return h('td', { class: isNumber ? 'null number' : 'null' }, 'NULL');
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  const kind = isNumber ? 'number' : text.length > LINE || text.includes('\n') ? undefined : 'short';
  return h('td', { class: kind }, `${visible(text.slice(0, CELL))}${text.length > CELL ? '…' : ''}`);
}

export function resultTable() {
  let columns = [];
  let rows = [];
  let page = 0;
  let total = 0;
  const head = h('tr');
  const body = h('tbody');
  const previous = h('button', { type: 'button', class: 'quiet', onclick: () => turn(-1) }, 'Previous');
  const next = h('button', { type: 'button', class: 'quiet', onclick: () => turn(1) }, 'Next');
  const where = h('span', { role: 'status' });
  const pager = h('nav', { class: 'pager', 'aria-label': 'Pages of the result' }, previous, where, next);
  const scroll = h('div', { class: 'result-scroll', tabindex: 0, role: 'region', 'aria-label': 'Rows of the result' },
    h('table', { class: 'plain result' }, h('thead', {}, head), body));
  const element = h('section', { class: 'card result-card', hidden: true }, scroll, pager);

  function turn(by) {
    page += by;
    fill();
    scroll.scrollTop = 0;
  }

  function fill() {
    const pages = Math.max(1, Math.ceil(rows.length / PAGE));
    page = Math.max(0, Math.min(page, pages - 1));
    const numeric = columns.map(({ Type }) => isNumeric(Type));
    body.replaceChildren(...rows.slice(page * PAGE, (page + 1) * PAGE).map((row) => h('tr', {}, row.map((value, at) => cell(value, numeric[at])))));
    pager.hidden = pages === 1;
    previous.disabled = page === 0;
    next.disabled = page === pages - 1;
    const older = total - rows.length;
    setText(where, `Page ${count(page + 1)} of ${count(pages)}${older > 0 ? `; ${counted(older, 'older row')} not kept` : ''}`);
  }

  function setColumns(all) {
    if (columns === all) return;
    columns = all;
    head.replaceChildren(...columns.map(({ Name, Type }) => h('th', { scope: 'col', class: isNumeric(Type) ? 'number' : undefined }, visible(Name), h('span', { class: 'type' }, Type))));
  }

  return {
    element,
    clear() {
      element.hidden = true;
      rows = [];
      page = 0;
    },
    /** Shows all rows of an answer. */
    show(all, answered) {
      setColumns(all);
      rows = answered;
      total = rows.length;
      element.hidden = false;
      fill();
    },
    /** Shows the growing rows of a live query, newest first. While the user is on a later page, that page does not change. */
    append(all, newestFirst, made) {
      setColumns(all);
      rows = newestFirst;
      total = made;
      element.hidden = false;
      if (page === 0) fill();
    },
  };
}
