// The list of streams, with the rates in and out of each.

import { historyOf, watch } from './activity.js';
import { words } from './api.js';
import { createStream, deleteStream, changeMode, changeRetention } from './changes.js';
import { sparkline } from './chart.js';
import { h, setAttribute, setText } from './dom.js';
import { bytes, bytesRate, count, counted, hours, rate, word } from './format.js';

const PAGE = 50;

const SORTS = {
  name: (stream) => stream.StreamName,
  status: (stream) => stream.StreamStatus,
  shards: (stream) => -(stream.OpenShardCount ?? 0),
  in: (stream) => -(historyOf(stream.StreamName).now.inBytes ?? 0),
  out: (stream) => -(historyOf(stream.StreamName).now.outBytes ?? 0),
  disk: (stream) => -(stream.DiskBytes ?? 0),
};

/** Makes a row. It is made once, and only its texts change afterwards. */
function makeRow(name, act) {
  const status = h('span', { class: 'badge' });
  const mode = h('span', { class: 'muted' });
  const shards = h('span');
  const rateIn = h('span', { class: 'rate' });
  const rateOut = h('span', { class: 'rate' });
  const retention = h('span');
  const disk = h('span');
  const [lineIn, lineOut] = [sparkline('in'), sparkline('out')];
  let described = {};
  const button = (text, label, run, kind = 'quiet') => h('button', { type: 'button', class: kind, 'aria-label': `${label} ${name}`, onclick: () => run(described) }, text);
  const buttons = {
    UpdateStreamMode: button('Mode', 'Change the mode of', act.mode),
    IncreaseStreamRetentionPeriod: button('Retention', 'Change the retention of', act.retention),
    DeleteStream: button('Delete', 'Delete', act.delete, 'quiet danger-text'),
  };
  const cell = (label, ...content) => h('td', { 'data-label': label }, content);
  const element = h('tr', { 'data-stream': name },
    h('th', { scope: 'row' }, h('a', { href: `#/streams/${encodeURIComponent(name)}` }, name)),
    cell('Status', status), cell('Shards', shards, ' ', mode), cell('In', lineIn.element, rateIn), cell('Out', lineOut.element, rateOut),
    cell('Retention', retention), cell('Disk', disk), h('td', { class: 'row-actions' }, Object.values(buttons)));
  return {
    element,
    update(next, allowed) {
      described = next;
      const history = historyOf(name);
      setText(status, word(next.StreamStatus ?? '–'));
      setAttribute(status, 'class', `badge ${(next.StreamStatus ?? '').toLowerCase()}`);
      setText(mode, next.StreamMode === 'ON_DEMAND' ? 'on demand' : '');
      setText(shards, next.OpenShardCount === undefined ? '–' : count(next.OpenShardCount));
      setText(rateIn, bytesRate(history.now.inBytes));
      setText(rateOut, bytesRate(history.now.outBytes));
      setText(retention, next.RetentionPeriodHours === undefined ? '–' : hours(next.RetentionPeriodHours));
      setText(disk, next.DiskBytes === undefined ? '–' : bytes(next.DiskBytes));
      lineIn.update(history.recent('inBytes'));
      lineOut.update(history.recent('outBytes'));
      for (const [operation, shown] of Object.entries(buttons)) {
        shown.hidden = allowed ? !allowed.has(operation) : operation === 'IncreaseStreamRetentionPeriod';
      }
    },
  };
}

/** Shows the list. Returns a function that leaves the page. */
export function streamsView(main) {
  document.title = 'Streams – streamlog';
  let answer;
  let sortBy = 'name';
  let page = 0;
  const rows = new Map();
  const after = (promise) => promise.then((done) => done && watched.ask());
  const act = { delete: (stream) => after(deleteStream(stream)), mode: (stream) => after(changeMode(stream)), retention: (stream) => after(changeRetention(stream)) };
  const filter = h('input', { type: 'search', placeholder: 'Find a stream', 'aria-label': 'Find a stream', oninput: () => { page = 0; show(); } });
  const create = h('button', {
    type: 'button', class: 'primary', onclick: async () => {
      if (await createStream()) watched.ask();
    },
  }, 'Create stream');
  const notice = h('p', { class: 'notice', role: 'status', hidden: true });
  const tiles = h('dl', { class: 'tiles' });
  const body = h('tbody');
  const heads = [];
  const head = (text, sort, kind) => {
    const button = h('button', { type: 'button', class: 'sort', onclick: () => { sortBy = sort; page = 0; show(); } }, text);
    const cell = h('th', { scope: 'col', class: kind }, button);
    heads.push([sort, cell]);
    return cell;
  };
  const table = h('table', { class: 'streams' },
    h('thead', {}, h('tr', {}, head('Stream', 'name'), head('Status', 'status'), head('Shards', 'shards'), head('In', 'in'), head('Out', 'out'),
      h('th', { scope: 'col' }, 'Retention'), head('Disk', 'disk'), h('th', { scope: 'col' }, h('span', { class: 'unseen' }, 'Actions')))),
    body);
  const pager = h('nav', { class: 'pager', 'aria-label': 'Pages of the list' });
  const empty = h('div', { class: 'empty', hidden: true });
  main.replaceChildren(
    h('div', { class: 'page-head' }, h('h1', {}, 'Streams'), h('div', { class: 'page-tools' }, filter, create)),
    notice, tiles, h('div', { class: 'card table-card', 'aria-busy': 'true' }, table, empty), pager);
  const card = main.querySelector('.table-card');

  function found() {
    const text = filter.value.trim().toLowerCase();
    const streams = answer.streams.filter((stream) => stream.StreamName.toLowerCase().includes(text));
    const key = SORTS[sortBy];
    const compare = (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : a.StreamName < b.StreamName ? -1 : 1);
    return streams.sort(compare);
  }

  function showTiles() {
    const sum = (value) => answer.streams.reduce((total, stream) => total + (value(stream) ?? 0), 0);
    const now = (field) => sum((stream) => historyOf(stream.StreamName).now[field]);
    const isKnown = answer.allowed !== undefined;
    const figures = [
      ['Streams', count(answer.streams.length)],
      ['Open shards', isKnown ? count(sum((stream) => stream.OpenShardCount)) : '–'],
      ['In', isKnown ? bytesRate(now('inBytes')) : '–', isKnown ? rate(now('inRecords')).replace('/s', ' records/s') : ''],
      ['Out', isKnown ? bytesRate(now('outBytes')) : '–', isKnown ? rate(now('outRecords')).replace('/s', ' records/s') : ''],
      ['On disk', isKnown ? bytes(sum((stream) => stream.DiskBytes)) : '–'],
    ];
    tiles.replaceChildren(...figures.map(([name, value, more]) => h('div', { class: 'tile' }, h('dt', {}, name), h('dd', {}, value), more && h('dd', { class: 'more' }, more))));
  }

  function show() {
    if (!answer) return;
    card.removeAttribute('aria-busy');
    const streams = found();
    const pages = Math.max(1, Math.ceil(streams.length / PAGE));
    page = Math.min(page, pages - 1);
    const shown = streams.slice(page * PAGE, (page + 1) * PAGE);
    const elements = shown.map((stream) => {
      if (!rows.has(stream.StreamName)) rows.set(stream.StreamName, makeRow(stream.StreamName, act));
      const row = rows.get(stream.StreamName);
      row.update(stream, answer.allowed);
      return row.element;
    });
    const isSame = elements.length === body.children.length && elements.every((element, at) => body.children[at] === element);
    // The order is kept while the focus or the pointer is in the list, so that no row moves away from under it.
    const isInUse = body.contains(document.activeElement) || body.matches(':hover');
    const isSameSet = elements.length === body.children.length && elements.every((element) => element.parentNode === body);
    if (!isSame && !(isSameSet && isInUse)) body.replaceChildren(...elements);
    const names = new Set(answer.streams.map((stream) => stream.StreamName));
    for (const name of rows.keys()) if (!names.has(name)) rows.delete(name);
    heads.forEach(([sort, cell]) => setAttribute(cell, 'aria-sort', sort === sortBy ? (['name', 'status'].includes(sort) ? 'ascending' : 'descending') : undefined));
    table.hidden = streams.length === 0;
    empty.hidden = streams.length > 0;
    if (streams.length === 0) {
      empty.replaceChildren(...(answer.streams.length === 0
        ? [h('h2', {}, 'No streams yet'), h('p', {}, 'Create one here, or with any client of Amazon Kinesis at this address.')]
        : [h('h2', {}, 'No stream has this name'), h('p', {}, 'Clear the search to see all.')]));
    }
    pager.hidden = pages === 1;
    const step = (text, to) => h('button', { type: 'button', class: 'quiet', disabled: to < 0 || to >= pages, onclick: () => { page = to; show(); main.querySelector('h1').scrollIntoView(); } }, text);
    if (!pager.contains(document.activeElement) || pager.dataset.shown !== `${page}/${pages}`) {
      pager.dataset.shown = `${page}/${pages}`;
      pager.replaceChildren(step('Previous', page - 1), h('span', {}, `${counted(streams.length, 'stream')}, page ${page + 1} of ${pages}`), step('Next', page + 1));
    }
    create.hidden = answer.mayCreate === false;
    showTiles();
  }

  const watched = watch({}, (next) => {
    answer = next;
    notice.hidden = answer.mayCreate === true;
    if (!answer.allowed) setText(notice, 'This key may not do streamlog:DescribeActivity, so there are no rates and sizes.');
    else setText(notice, 'This key may only look: it may not create streams.');
    setAttribute(notice, 'class', 'notice');
    show();
  }, (error) => {
    notice.hidden = false;
    setAttribute(notice, 'class', 'notice bad');
    setText(notice, words(error));
  });
  return () => watched.stop();
}
