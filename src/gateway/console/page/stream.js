// One stream: its hash keys as a picture, its charts, its records, its shards and its readers.

import { historyOf, watch } from './activity.js';
import { server, words } from './api.js';
import { changeMode, changeRetention, deleteStream, mergeShards, scaleStream, splitShard } from './changes.js';
import { chart, PAST, spanChoice } from './chart.js';
import { h, setAttribute, setText } from './dom.js';
import { heatmap } from './heatmap.js';
import { bytes, bytesRate, count, duration, hours, percent, rate, shardNumber, word } from './format.js';
import { keyspace } from './keyspace.js';
import { putTab } from './put.js';
import { readersTab } from './readers.js';
import { recordsTab } from './records.js';
import { settingsTab } from './settings.js';
import { loadShards, openShards } from './shards.js';

const TABS = { overview: 'Overview', data: 'Data', put: 'Put records', shards: 'Shards', readers: 'Consumers', settings: 'Settings' };
const ROWS = 100;

/** Shows a stream. Returns a function that leaves the page. */
export function streamView(main, name, tabName) {
  document.title = `${name} – streamlog`;
  const view = { name, shards: new Map(), answer: undefined };
  const tab = { overview: overviewTab, data: recordsTab, put: putTab, shards: shardsTab, readers: readersTab, settings: settingsTab }[tabName] ?? overviewTab;
  const notice = h('p', { class: 'notice', role: 'status', hidden: true });
  const status = h('span', { class: 'badge' });
  const facts = h('span', { class: 'muted' });
  const done = (promise) => promise.then((isDone) => isDone && watched.ask()).catch(showError);
  const button = (text, operation, run, kind = 'quiet') => {
    const element = h('button', { type: 'button', class: kind, disabled: true, onclick: () => done(run()) }, text);
    return { element, operation };
  };
  const buttons = [
    button('Scale', 'UpdateShardCount', () => scaleStream(name, view.shards)),
    button('Split', 'SplitShard', () => splitShard(name, view.shards)),
    button('Merge', 'MergeShards', () => mergeShards(name, view.shards)),
    button('Retention', 'IncreaseStreamRetentionPeriod', () => changeRetention(view.answer.described)),
    button('Mode', 'UpdateStreamMode', () => changeMode(view.answer.described)),
    button('Delete', 'DeleteStream', () => deleteStream(view.answer.described), 'quiet danger-text'),
  ];
  const href = (to) => `#/streams/${encodeURIComponent(name)}${to === 'overview' ? '' : `/${to}`}`;
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'Parts of the stream' }, Object.entries(TABS).map(([key, text]) =>
    h('a', { href: href(key), 'aria-current': key === tabName ? 'page' : undefined }, text)));
  const content = h('div', { class: 'tab' });
  main.replaceChildren(
    h('nav', { class: 'crumbs', 'aria-label': 'Where you are' }, h('a', { href: '#/' }, 'Streams'), h('span', { 'aria-hidden': 'true' }, '›'), h('span', {}, name)),
    h('div', { class: 'page-head' }, h('div', { class: 'title' }, h('h1', {}, name), status, facts), h('div', { class: 'actions' },
      server.hasSql && h('a', { class: 'button quiet', href: `#/query/${encodeURIComponent(name)}` }, 'Query'), buttons.map((each) => each.element))),
    notice, tabs, content);

  function showError(error) {
    notice.hidden = false;
    setAttribute(notice, 'class', 'notice bad');
    setText(notice, error.kind === 'ResourceNotFoundException' ? 'There is no stream of this name any more.' : words(error));
  }

  view.may = (operation) => !view.answer?.allowed || view.answer.allowed.has(operation);
  view.split = (id) => done(splitShard(name, view.shards, id));
  view.merge = (id) => done(mergeShards(name, view.shards, id));
  view.refresh = () => watched.ask();
  const shown = tab(content, view);

  function showHead({ described, allowed }) {
    setText(status, word(described.StreamStatus));
    setAttribute(status, 'class', `badge ${described.StreamStatus.toLowerCase()}`);
    setText(facts, `${word(described.StreamMode ?? 'PROVISIONED')} · keeps records for ${hours(described.RetentionPeriodHours)}`);
    const isOnDemand = described.StreamMode === 'ON_DEMAND';
    const resharding = ['UpdateShardCount', 'SplitShard', 'MergeShards'];
    for (const { element, operation } of buttons) {
      element.hidden = allowed ? !allowed.has(operation) : false;
      element.disabled = described.StreamStatus !== 'ACTIVE' || (isOnDemand && resharding.includes(operation))
        || (operation === 'MergeShards' && described.OpenShardCount < 2) || (resharding.includes(operation) && view.shards.size === 0);
      element.title = isOnDemand && resharding.includes(operation) ? 'The load decides on the shards of a stream on demand.' : '';
    }
    const isReadOnly = allowed && buttons.every(({ operation }) => !allowed.has(operation));
    notice.hidden = allowed !== undefined && !isReadOnly;
    setAttribute(notice, 'class', 'notice');
    setText(notice, allowed ? 'Read only: this key may not change the stream.' : 'This key may not do streamlog:DescribeActivity, so there are no rates, sizes and groups.');
  }

  let seen = '';
  const watched = watch({ stream: name, consumers: () => tabName === 'readers' }, async (answer) => {
    view.answer = answer;
    // Loads the shards again if they have changed.
    const { described } = answer;
    const now = answer.shards
      ? [...answer.shards.values()].map((shard) => `${shard.ShardId}${shard.ClosedMillis ? 'c' : ''}`).join()
      : `${described.OpenShardCount}`;
    if (described.StreamStatus !== 'CREATING' && now !== seen) {
      try {
        view.shards = await loadShards(name);
        seen = now;
        shown.setShards?.(view.shards);
      } catch (error) {
        if (error.kind !== 'AccessDeniedException') throw error;
      }
    }
    showHead(answer);
    shown.update?.(answer);
  }, showError);
  return () => {
    watched.stop();
    shown.leave?.();
  };
}

function overviewTab(content, view) {
  const picture = keyspace({
    actions: (shard, open) => {
      if (!shard.isOpen || view.answer?.described.StreamMode === 'ON_DEMAND') return [readLink(view, shard)];
      return [
        readLink(view, shard),
        view.may('SplitShard') && h('button', { type: 'button', class: 'quiet', onclick: () => view.split(shard.id) }, 'Split this shard'),
        view.may('MergeShards') && open.at(-1) !== shard && h('button', { type: 'button', class: 'quiet', onclick: () => view.merge(shard.id) }, 'Merge with the next'),
      ];
    },
  });
  const past = heatmap({ name: view.name, onselect: (id) => picture.select(id) });
  const tiles = h('dl', { class: 'tiles' });
  const span = spanChoice(() => draw());
  const charts = [
    chart({ title: 'Bytes', isBytes: true, format: bytesRate, lines: [{ kind: 'in', name: 'In', field: 'inBytes' }, { kind: 'out', name: 'Out', field: 'outBytes' }] }),
    chart({ title: 'Records', format: rate, lines: [{ kind: 'in', name: 'In', field: 'inRecords' }, { kind: 'out', name: 'Out', field: 'outRecords' }] }),
    chart({ title: 'Readers behind', format: duration, lines: [{ kind: 'lag', name: 'The slowest reader', field: 'age' }], note: 'The age of the oldest record that a reader in this process has not read yet.' }),
    chart({ title: 'Throttled', format: rate, lines: [{ kind: 'throttled', name: 'Records in', field: 'writeThrottled' }, { kind: 'lag', name: 'Calls out', field: 'readThrottled' }] }),
  ];
  content.replaceChildren(tiles, picture.element,
    h('div', { class: 'section-head' }, h('h2', {}, 'Traffic'), span),
    h('p', { class: 'hint' }, PAST),
    h('div', { class: 'charts' }, charts.map((each) => each.element)), past.element);
  let time = Date.now();

  function draw() {
    charts.forEach((each) => each.update(historyOf(view.name), time, Number(span.value)));
    past.update(time, Number(span.value), view.answer?.shards);
  }

  return {
    setShards(shards) {
      picture.setShards(shards);
      past.setShards(shards);
    },
    update(answer) {
      time = answer.time;
      const { described } = answer;
      const { now } = historyOf(view.name);
      const known = (value, format) => (value === undefined ? '–' : format(value));
      const figures = [
        ['In', bytesRate(now.inBytes), rate(now.inRecords).replace('/s', ' records/s')],
        ['Out', bytesRate(now.outBytes), rate(now.outRecords).replace('/s', ' records/s')],
        ['Records', known(described.RecordCount, count)],
        ['On disk', known(described.DiskBytes, bytes)],
        ['Open shards', count(described.OpenShardCount)],
        ['Throttled', now.writeThrottled === undefined ? '–' : rate(now.writeThrottled + now.readThrottled)],
      ];
      tiles.replaceChildren(...figures.map(([name, value, more]) => h('div', { class: 'tile' }, h('dt', {}, name), h('dd', {}, value), more && h('dd', { class: 'more' }, more))));
      picture.update(answer.shards);
      draw();
    },
  };
}

function readLink(view, shard) {
  return h('a', { class: 'button quiet', href: `#/streams/${encodeURIComponent(view.name)}/data`, onclick: () => { sessionShard.id = shard.id; } }, 'Read its records');
}

/** The shard that the data viewer starts with. */
export const sessionShard = { id: undefined };

function shardsTab(content, view) {
  const body = h('tbody');
  let rows = new Map();
  let limit = ROWS;
  const isWithClosed = h('input', { type: 'checkbox', id: 'with-closed', onchange: () => build() });
  const more = h('button', { type: 'button', class: 'quiet', onclick: () => { limit += ROWS; build(); } }, 'Show more');
  content.replaceChildren(
    h('div', { class: 'section-head' }, h('h2', {}, 'Shards'), h('span', { class: 'check' }, isWithClosed, h('label', { for: 'with-closed' }, 'With closed shards'))),
    h('div', { class: 'card table-card' }, h('table', { class: 'shards' },
      h('thead', {}, h('tr', {}, ['Shard', 'State', 'Keys', 'In', 'Out', 'Records', 'Disk', 'Readers behind', 'Throttled', 'Parents'].map((text) => h('th', { scope: 'col' }, text)))), body)),
    more);

  function build() {
    const all = isWithClosed.checked ? [...view.shards.values()] : openShards(view.shards);
    rows = new Map();
    body.replaceChildren(...all.slice(0, limit).map((shard) => {
      const cells = Array.from({ length: 6 }, () => h('td'));
      ['In', 'Out', 'Records', 'Disk', 'Readers behind', 'Throttled'].forEach((label, at) => cells[at].setAttribute('data-label', label));
      rows.set(shard.id, cells);
      return h('tr', {}, h('th', { scope: 'row', title: shard.id }, shardNumber(shard.id)), h('td', { 'data-label': 'State' }, h('span', { class: `badge ${shard.isOpen ? 'active' : ''}` }, shard.isOpen ? 'Open' : 'Closed')),
        h('td', { 'data-label': 'Keys' }, percent(shard.to - shard.from)), cells, h('td', { 'data-label': 'Parents' }, shard.parents.map(shardNumber).join(', ') || '–'));
    }));
    more.hidden = all.length <= limit;
    update(view.answer);
  }

  function update(answer) {
    for (const [id, cells] of rows) {
      const stats = answer?.shards?.get(id);
      const texts = stats
        ? [bytesRate(stats.now.inBytes), bytesRate(stats.now.outBytes), count(stats.RecordCount), bytes(stats.DiskBytes),
          stats.IteratorAgeMilliseconds === undefined ? '–' : duration(stats.IteratorAgeMilliseconds), count(stats.WriteThrottledRecords + stats.ReadThrottledCalls)]
        : Array(6).fill('–');
      texts.forEach((text, at) => setText(cells[at], text));
    }
  }
  return { setShards: build, update };
}
