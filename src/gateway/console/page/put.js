// Puts records: one, one for each line, or generated at a rate.

import { kinesis, words } from './api.js';
import { choices, field, h, setText } from './dom.js';
import { toBase64 } from './bytes.js';
import { count, counted, duration, rate, shardName } from './format.js';

const encoder = new TextEncoder();
const BATCH = 500;
const TICK_MS = 250;
const RATE_MAX = 5_000;

const encode = (text) => toBase64(encoder.encode(text));
const randomKey = () => crypto.randomUUID().slice(0, 8);

/** Puts records in batches. Counts in `counts` how many were put and how many failed, and keeps the latest reason. */
async function putAll(stream, records, counts) {
  for (let at = 0; at < records.length; at += BATCH) {
    const answer = await kinesis('PutRecords', { StreamName: stream, Records: records.slice(at, at + BATCH) });
    for (const each of answer.Records) {
      if (each.ErrorCode) {
        counts.failed += 1;
        counts.reason = words({ kind: each.ErrorCode, message: each.ErrorMessage });
      } else counts.put += 1;
    }
  }
}

function oneForm(view, say) {
  const key = h('input', { type: 'text', required: true, maxlength: 256, value: 'user-17', spellcheck: 'false' });
  const hash = h('input', { type: 'text', inputmode: 'numeric', pattern: '0|([1-9][0-9]{0,38})', spellcheck: 'false' });
  const data = h('textarea', { rows: 6, required: true, spellcheck: 'false', value: '{"page": "/checkout", "items": 3}' });
  return h('form', {
    onsubmit: async (event) => {
      event.preventDefault();
      const input = { StreamName: view.name, PartitionKey: key.value, Data: encode(data.value) };
      if (hash.value) input.ExplicitHashKey = hash.value;
      await say(async () => {
        const answer = await kinesis('PutRecord', input);
        return `Put: ${shardName(answer.ShardId).toLowerCase()}, sequence number ${answer.SequenceNumber}.`;
      });
    },
  }, field('Partition key', key, 'Its hash chooses the shard.'), field('Data', data),
  h('details', {}, h('summary', {}, 'Choose the shard yourself'), field('Explicit hash key', hash, 'A decimal number below 2¹²⁸, in place of the hash of the key.')),
  h('div', { class: 'form-end' }, h('button', { type: 'submit', class: 'primary' }, 'Put record')));
}

function linesForm(view, say) {
  const lines = h('textarea', { rows: 10, required: true, spellcheck: 'false', placeholder: 'one record a line' });
  const keys = choices('Partition keys', [['random', 'A new one for each line'], ['tab', 'What stands before the first tab of a line']], 'random');
  return h('form', {
    onsubmit: async (event) => {
      event.preventDefault();
      const texts = lines.value.split('\n').filter((line) => line !== '');
      const records = texts.map((line) => {
        const tab = keys.value === 'tab' ? line.indexOf('\t') : -1;
        return { PartitionKey: tab > 0 ? line.slice(0, tab) : randomKey(), Data: encode(tab > 0 ? line.slice(tab + 1) : line) };
      });
      const counts = { put: 0, failed: 0 };
      await say(async () => {
        await putAll(view.name, records, counts);
        return `${counted(counts.put, 'record')} put.${counts.failed > 0 ? ` ${count(counts.failed)} not: ${counts.reason}` : ''}`;
      });
    },
  }, field('Lines', lines), keys.element, h('div', { class: 'form-end' }, h('button', { type: 'submit', class: 'primary' }, 'Put lines')));
}

/** Fills the placeholders of a template: `{n}`, `{key}`, `{time}`, `{random}`. */
function fill(template, key, number) {
  const values = { n: String(number), key, time: new Date().toISOString(), random: String(Math.floor(Math.random() * 1_000)) };
  return template.replace(/\{(n|key|time|random)\}/g, (_, name) => values[name]);
}

function generator(view) {
  const speed = h('input', { type: 'number', min: 1, max: RATE_MAX, step: 1, value: 50, required: true });
  const keyCount = h('input', { type: 'number', min: 1, max: 1_000_000, step: 1, value: 100, required: true });
  const template = h('textarea', { rows: 4, required: true, spellcheck: 'false', value: '{"n": {n}, "user": "{key}", "at": "{time}", "value": {random}}' });
  const state = h('p', { class: 'reading-state', role: 'status' }, 'Not running.');
  const button = h('button', { type: 'submit', class: 'primary' }, 'Start');
  let timer;
  let counts;

  function stop() {
    clearInterval(timer);
    timer = undefined;
    setText(button, 'Start');
    button.className = 'primary';
  }

  function start() {
    counts = { put: 0, failed: 0, made: 0, begun: performance.now(), isBusy: false };
    setText(button, 'Stop');
    button.className = 'danger';
    timer = setInterval(async () => {
      if (counts.isBusy) return;
      counts.isBusy = true;
      const due = Math.floor(((performance.now() - counts.begun) / 1_000) * Number(speed.value)) - counts.made;
      const records = Array.from({ length: Math.min(due, RATE_MAX) }, () => {
        const key = `key-${Math.floor(Math.random() * Number(keyCount.value))}`;
        counts.made += 1;
        return { PartitionKey: key, Data: encode(fill(template.value, key, counts.made)) };
      });
      try {
        await putAll(view.name, records, counts);
        const seconds = (performance.now() - counts.begun) / 1_000;
        setText(state, `${counted(counts.put, 'record')} put in ${duration(seconds * 1_000)} (${rate(counts.put / seconds)}).${counts.failed > 0 ? ` ${count(counts.failed)} not: ${counts.reason}` : ''}`);
      } catch (error) {
        setText(state, words(error));
        stop();
      }
      counts.isBusy = false;
    }, TICK_MS);
  }

  const element = h('form', {
    onsubmit: (event) => {
      event.preventDefault();
      if (timer) stop();
      else start();
    },
  }, h('div', { class: 'field-row' }, field('Records a second', speed, `Up to ${count(RATE_MAX)}.`), field('Different keys', keyCount)),
  field('Data', template, '{n} is the number of the record, {key} its key, {time} the time, {random} a number.'),
  state, h('div', { class: 'form-end' }, button));
  return { element, stop };
}

/** Shows the tab. */
export function putTab(content, view) {
  const message = h('p', { class: 'reading-state', role: 'status' });
  const error = h('p', { class: 'error', role: 'alert' });
  const say = async (put) => {
    setText(error, '');
    setText(message, '');
    try {
      setText(message, await put());
    } catch (failure) {
      setText(error, words(failure));
    }
  };
  const made = generator(view);
  const forms = { one: oneForm(view, say), many: linesForm(view, say), made: made.element };
  const place = h('div', {}, forms.one);
  const kinds = choices('What to put', [['one', 'One record'], ['many', 'Many lines'], ['made', 'Made at a rate']], 'one', (kind) => {
    made.stop();
    setText(message, '');
    setText(error, '');
    place.replaceChildren(forms[kind]);
  });
  const card = h('div', { class: 'card put-card' }, kinds.element, place, error, message);
  const refusal = h('p', { class: 'notice', hidden: true }, 'This key may not put records into this stream.');
  content.replaceChildren(refusal, card);
  return {
    update() {
      const isAllowed = view.may('PutRecord') || view.may('PutRecords');
      refusal.hidden = isAllowed;
      card.hidden = !isAllowed;
    },
    leave: () => made.stop(),
  };
}
