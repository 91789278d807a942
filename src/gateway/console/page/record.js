// One record in full: where it is, its times, and its data as text, JSON, hexadecimal digits, or user records.

import { h, download } from './dom.js';
import { bytes as size, count, counted, localTime, utcTime } from './format.js';
import { asAnyText, asText, fromBase64, hexDump, preview, toBase64, visible } from './bytes.js';
import { takeApart } from './aggregate.js';
import { jsonTree, parseJson } from './json.js';

const TEXT_STEP = 32_768;
const HEX_STEP = 4_096;
const JSON_BYTES_MAX = 2 << 20;
const USER_RECORDS = 100;

/** Adds to a record what the list needs: its bytes, a line of text, and the user records if it is an aggregate. */
export function open(record) {
  record.bytes = fromBase64(record.data);
  record.data = undefined;
  record.headers = record.headers.map(({ Name, Value }) => ({ name: Name, bytes: fromBase64(Value) }));
  record.users = takeApart(record.bytes);
  record.line = record.users
    ? { text: `${counted(record.users.length, 'user record')}: ${record.users.slice(0, 3).map((user) => preview(user.data).text).join(' · ')}`.slice(0, 240), isBinary: false }
    : preview(record.bytes);
  return record;
}

/** Returns whether a text is in the record: its key, its headers, its data, or its sequence number. */
export function contains(record, wanted) {
  if (record.key.toLowerCase().includes(wanted) || record.sequence.includes(wanted)) return true;
  const headers = record.headers.map(({ name, bytes }) => `${name} ${asAnyText(bytes)}\n`).join('');
  record.searched ??= (headers + asAnyText(record.bytes)).toLowerCase();
  return record.searched.includes(wanted);
}

/** Shows long content in steps. */
function stepwise(total, step, draw) {
  let shown = 0;
  const pre = h('pre', { tabindex: '0', role: 'region', 'aria-label': 'The data' });
  const more = h('button', { type: 'button', class: 'quiet', onclick: () => grow() });
  function grow() {
    const to = Math.min(total, shown + step);
    pre.append(document.createTextNode(draw(shown, to)));
    shown = to;
    more.hidden = shown >= total;
    more.textContent = `Show more (${count(total - shown)} to go)`;
  }
  grow();
  return [pre, more];
}

function views(bytes, wanted) {
  const text = asText(bytes);
  const json = text !== undefined && bytes.length <= JSON_BYTES_MAX ? parseJson(text) : undefined;
  const shown = {};
  if (json !== undefined) shown.JSON = () => [jsonTree(json, wanted)];
  const any = () => text ?? asAnyText(bytes);
  shown.Text = () => [
    text === undefined && h('p', { class: 'hint' }, 'These bytes are no UTF-8. What cannot be read is shown as �.'),
    stepwise(any().length, TEXT_STEP, (from, to) => (from === 0 ? '' : '\n') + visible(any().slice(from, to))),
  ];
  shown.Hex = () => stepwise(bytes.length, HEX_STEP, (from, to) => (from === 0 ? '' : '\n') + hexDump(bytes, from, to));
  return { shown, first: json !== undefined ? 'JSON' : text === undefined ? 'Hex' : 'Text' };
}

/** Makes the view of a record's data, with a choice of format. */
function dataView(bytes, name, wanted) {
  const { shown, first } = views(bytes, wanted);
  const place = h('div', { class: 'data' });
  const buttons = Object.keys(shown).map((kind) => h('button', {
    type: 'button', class: 'segment', 'aria-pressed': String(kind === first), onclick: () => {
      buttons.forEach((button) => button.setAttribute('aria-pressed', String(button.textContent === kind)));
      place.replaceChildren(...shown[kind]().flat().filter(Boolean));
    },
  }, kind));
  place.replaceChildren(...shown[first]().flat().filter(Boolean));
  const save = h('button', { type: 'button', class: 'quiet', onclick: () => download(`${name}.bin`, 'application/octet-stream', bytes) }, 'Download');
  return h('div', {}, h('div', { class: 'segments' }, h('div', { class: 'segment-group', role: 'group', 'aria-label': 'How to see the data' }, buttons), save), place);
}

function userRecords(record, wanted) {
  const list = h('ol', { class: 'users', start: 0 });
  let shown = 0;
  const more = h('button', { type: 'button', class: 'quiet', onclick: () => grow() });
  function grow() {
    for (const user of record.users.slice(shown, shown + USER_RECORDS)) {
      const at = shown;
      shown += 1;
      const details = h('details', { ontoggle: () => details.open && details.children.length === 1 && details.append(dataView(user.data, `${record.sequence}-${at}`, wanted)) },
        h('summary', {}, h('span', { class: 'mono' }, visible(user.key)), ` ${preview(user.data).text} `, h('span', { class: 'muted' }, size(user.data.length))));
      list.append(h('li', {}, details));
    }
    more.hidden = shown >= record.users.length;
    more.textContent = `${count(record.users.length - shown)} more`;
  }
  grow();
  return h('div', {}, h('h2', {}, `${counted(record.users.length, 'user record')} of a producer library`), list, more);
}

/** Makes a table of headers. A value that is not text is shown as hexadecimal digits. */
function headerTable(headers) {
  const value = (bytes) => asText(bytes) ?? [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return h('div', {}, h('h2', {}, 'Headers'),
    h('dl', { class: 'facts wide headers' }, headers.map(({ name, bytes }) => h('div', {}, h('dt', {}, visible(name)), h('dd', { class: 'mono' }, visible(value(bytes)))))));
}

/** Makes the details of a record. */
export function details(record, wanted) {
  const fact = (name, value, kind) => h('div', {}, h('dt', {}, name), h('dd', { class: kind }, value));
  return h('div', { class: 'record-detail' },
    h('dl', { class: 'facts roomy' },
      fact('Arrived (your time)', localTime(record.time)), fact('UTC', utcTime(record.time)),
      fact('Shard', record.shard, 'mono'), fact('Size', record.bytes.length < 1_024 ? size(record.bytes.length) : `${size(record.bytes.length)} (${count(record.bytes.length)} B)`)),
    h('dl', { class: 'facts wide' }, fact('Partition key', visible(record.key), 'mono'), fact('Sequence number', record.sequence, 'mono')),
    record.headers.length > 0 && headerTable(record.headers),
    record.users && userRecords(record, wanted),
    record.users ? h('details', {}, h('summary', {}, 'The aggregate itself'), dataView(record.bytes, record.sequence, wanted)) : dataView(record.bytes, record.sequence, wanted));
}

/** Returns a record as a line of JSON, for a download. */
export function asLine(record) {
  const text = asText(record.bytes);
  return JSON.stringify({
    shard: record.shard, sequence_number: record.sequence, partition_key: record.key, arrived: record.time.toISOString(),
    ...(record.headers.length > 0 && { headers: record.headers.map(({ name, bytes }) => ({ name, value_base64: toBase64(bytes) })) }),
    ...(text === undefined ? { data_base64: toBase64(record.bytes) } : { data: text }),
  });
}
