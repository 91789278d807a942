// Who reads a stream: registered consumers with their subscriptions, consumer groups of the log with their lag, and queues.

import { historyOf } from './activity.js';
import { kinesis, words } from './api.js';
import { chart, PAST, spanChoice } from './chart.js';
import { field, h, toast } from './dom.js';
import { openDialog } from './dialog.js';
import { bytes, count, counted, duration, localTime, shardName, short, utcTime, word } from './format.js';

function register(view) {
  const name = h('input', { type: 'text', required: true, pattern: '[a-zA-Z0-9_.\\-]+', maxlength: 128, autocomplete: 'off', spellcheck: 'false' });
  return openDialog({
    title: 'Register a consumer',
    fields: [field('Name', name, 'Letters, digits, and . _ -')],
    preview: () => h('p', {}, 'The consumer gets a pipe of its own to each shard, beside all other readers. Its program calls SubscribeToShard.'),
    action: 'Register',
    run: async () => {
      await kinesis('RegisterStreamConsumer', { StreamARN: await arnOf(view.name), ConsumerName: name.value });
      return `Consumer ${name.value} is registered.`;
    },
  });
}

async function arnOf(stream) {
  const { StreamDescriptionSummary: summary } = await kinesis('DescribeStreamSummary', { StreamName: stream });
  return summary.StreamARN;
}

function consumerRow(consumer, view, opened) {
  const slowest = Math.max(0, ...consumer.Subscriptions.map((each) => each.MillisBehindLatest));
  const date = new Date(consumer.CreatedMillis);
  const remove = view.may('DeregisterStreamConsumer') && h('button', {
    type: 'button', class: 'quiet danger-text', 'aria-label': `Deregister ${consumer.ConsumerName}`, onclick: async () => {
      try {
        await kinesis('DeregisterStreamConsumer', { ConsumerARN: consumer.ConsumerARN });
        toast(`Consumer ${consumer.ConsumerName} is deregistered.`);
        view.refresh();
      } catch (error) {
        toast(words(error), 'bad');
      }
    },
  }, 'Deregister');
  return h('tr', {}, h('th', { scope: 'row' }, consumer.ConsumerName),
    h('td', { 'data-label': 'State' }, h('span', { class: `badge ${consumer.ConsumerStatus.toLowerCase()}` }, word(consumer.ConsumerStatus))),
    h('td', { 'data-label': 'Registered', title: utcTime(date) }, localTime(date).slice(0, 19)),
    h('td', { 'data-label': 'Subscriptions' }, consumer.Subscriptions.length === 0 ? 'none' : h('details', {
      open: opened.has(consumer.ConsumerName),
      ontoggle: (event) => (event.target.open ? opened.add(consumer.ConsumerName) : opened.delete(consumer.ConsumerName)),
    }, h('summary', {}, counted(consumer.Subscriptions.length, 'shard')),
      h('ul', { class: 'plain-list' }, consumer.Subscriptions.map((each) => h('li', {}, `${shardName(each.ShardId)}: ${each.MillisBehindLatest === 0 ? 'at the end' : `${duration(each.MillisBehindLatest)} behind`}`))))),
    h('td', { 'data-label': 'Behind' }, consumer.Subscriptions.length === 0 ? '–' : slowest === 0 ? 'at the end' : duration(slowest)),
    h('td', { class: 'row-actions' }, remove));
}

function groupRow(group) {
  if (group.Problem) return h('tr', {}, h('th', { scope: 'row' }, group.GroupName), h('td', { colspan: 5 }, group.Problem));
  const orphans = group.Shards.filter((shard) => !shard.HasWorker).length;
  return h('tr', {}, h('th', { scope: 'row' }, group.GroupName),
    h('td', { 'data-label': 'Workers' }, count(group.WorkerCount)),
    h('td', { 'data-label': 'Records to go' }, count(group.LagRecords)),
    h('td', { 'data-label': 'Bytes to go' }, bytes(group.LagBytes)),
    h('td', { 'data-label': 'Behind' }, group.LagRecords === 0 ? 'at the end' : duration(group.LagMillis)),
    h('td', { 'data-label': 'Shards without a worker' }, count(orphans)));
}

function queueRow(queue) {
  const shown = (records) => (records === undefined ? '–' : count(records));
  return h('tr', {}, h('th', { scope: 'row' }, queue.QueueName),
    h('td', { 'data-label': 'State' }, h('span', { class: `badge ${queue.QueueStatus.toLowerCase()}` }, word(queue.QueueStatus))),
    h('td', { 'data-label': 'Visible' }, shown(queue.VisibleRecords)),
    h('td', { 'data-label': 'In flight' }, shown(queue.InFlightRecords)),
    h('td', { 'data-label': 'Dead letters' }, shown(queue.DeadLetterRecords)));
}

/** Makes a chart of how far a reader is behind and, for a group, another of how many records it has left. */
function lagCharts(reader) {
  const [kind, name] = [reader.split(' ', 1)[0], reader.slice(reader.indexOf(' ') + 1)];
  const behind = chart({ title: `${name}: behind`, format: duration, lines: [{ kind: 'lag', name: 'Behind', field: 'behind' }] });
  if (kind === 'consumer') return [behind];
  return [behind, chart({ title: `${name}: records to go`, format: short, lines: [{ kind: 'in', name: 'Records', field: 'records' }] })];
}

/** The charts of readers of one kind. */
function lagBoard(kind, history) {
  const element = h('div', { class: 'charts' });
  const shown = new Map();
  return {
    element,
    update(time, spanMs) {
      const readers = [...history.readers.keys()].filter((reader) => reader.startsWith(kind)).sort();
      for (const [reader, charts] of shown) {
        if (readers.includes(reader)) continue;
        charts.forEach((each) => each.element.remove());
        shown.delete(reader);
      }
      for (const reader of readers) {
        if (!shown.has(reader)) {
          shown.set(reader, lagCharts(reader));
          element.append(...shown.get(reader).map((each) => each.element));
        }
        shown.get(reader).forEach((each) => each.update(history.readers.get(reader), time, spanMs));
      }
    },
  };
}

/** Shows the tab. */
export function readersTab(content, view) {
  const consumers = h('tbody');
  const groups = h('tbody');
  const queues = h('tbody');
  const add = h('button', { type: 'button', class: 'primary', onclick: () => register(view).then((isDone) => isDone && view.refresh()) }, 'Register a consumer');
  const table = (heads, body) => h('div', { class: 'card table-card' }, h('table', {}, h('thead', {}, h('tr', {}, heads.map((text) => h('th', { scope: 'col' }, text)))), body));
  const actions = h('span', { class: 'unseen' }, 'Actions');
  const history = historyOf(view.name);
  const boards = [lagBoard('consumer', history), lagBoard('group', history)];
  let time = Date.now();
  const span = spanChoice(() => draw());
  const draw = () => boards.forEach((board) => board.update(time, Number(span.value)));
  content.replaceChildren(
    h('div', { class: 'section-head' }, h('h2', {}, 'Registered consumers'), h('span', { class: 'spring' }), span, add),
    h('p', { class: 'hint' }, 'Enhanced fan-out: each consumer has its own pipe to each shard.'),
    table(['Consumer', 'State', 'Registered', 'Subscriptions', 'Behind', actions], consumers),
    boards[0].element,
    h('div', { class: 'section-head' }, h('h2', {}, 'Consumer groups')),
    h('p', { class: 'hint' }, 'Groups of programs that have the log itself open. The checkpoints of the KCL are in its own table, and not here.'),
    table(['Group', 'Workers', 'Records to go', 'Bytes to go', 'Behind', 'Shards without a worker'], groups),
    boards[1].element,
    h('div', { class: 'section-head' }, h('h2', {}, 'Queues')),
    h('p', { class: 'hint' }, 'A queue hands records out one by one and takes them back one by one. Programs create queues with CreateQueue.'),
    table(['Queue', 'State', 'Visible', 'In flight', 'Dead letters'], queues),
    h('p', { class: 'hint' }, PAST));
  const none = (text) => h('tr', {}, h('td', { colspan: 6, class: 'muted' }, text));
  const opened = new Set();
  let seen;
  return {
    update(answer) {
      add.hidden = !view.may('RegisterStreamConsumer');
      // Rows that have not changed are kept, so that they keep the focus.
      const now = JSON.stringify(answer.consumers ?? null);
      if (now !== seen) {
        seen = now;
        const rows = (answer.consumers ?? []).map((consumer) => consumerRow(consumer, view, opened));
        consumers.replaceChildren(...(rows.length > 0 ? rows : [none(answer.shards ? 'No consumer is registered.' : 'Not known with this key.')]));
      }
      const rows = (answer.groups ?? []).map(groupRow);
      groups.replaceChildren(...(rows.length > 0 ? rows : [none(answer.shards ? 'The stream has no groups.' : 'Not known with this key.')]));
      const queued = (answer.queues ?? []).map(queueRow);
      queues.replaceChildren(...(queued.length > 0 ? queued : [none(answer.shards ? 'The stream has no queues.' : 'Not known with this key.')]));
      time = answer.time;
      draw();
    },
  };
}
