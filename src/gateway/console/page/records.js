// The data viewer: reads a shard or the whole stream from a position on, and follows new records.

import { words } from './api.js';
import { download, field, h, select, setText } from './dom.js';
import { bytes, clock, count, counted, localTime, percent, shardName, shardNumber, utcTime } from './format.js';
import { visible } from './bytes.js';
import { Reading, firstShards } from './reading.js';
import { asLine, contains, details, open } from './record.js';
import { sessionShard } from './stream.js';

const KEPT = 1_000;
const KEPT_BYTES = 64 << 20;
const BATCH = 100;
const FOLLOW_MS = 1_000;

const STARTS = [['TRIM_HORIZON', 'The oldest record'], ['LATEST', 'What comes from now on'], ['AT_TIMESTAMP', 'A time'], ['AT_SEQUENCE_NUMBER', 'A sequence number']];

/** Shows the tab. */
export function recordsTab(content, view) {
  let reading;
  let timer;
  let isFollowing = false;
  let isReading = false;
  let records = [];
  let dropped = 0;
  const rows = new Map();

  const shard = select([['', 'The whole stream']], {});
  const from = select(STARTS, { onchange: () => showFields() });
  const time = h('input', { type: 'datetime-local', step: 1 });
  const sequence = h('input', { type: 'text', inputmode: 'numeric', spellcheck: 'false', autocomplete: 'off' });
  const utc = h('p', { class: 'hint' }, 'In your time zone.');
  time.addEventListener('input', () => setText(utc, time.value ? utcTime(new Date(time.value)).slice(0, 19) + ' UTC' : 'In your time zone.'));
  const timeField = field('Time', time, utc);
  const sequenceField = field('Sequence number', sequence, 'Choose its shard, too.');
  // Before the shards are known, there is nothing to read from.
  const readButton = h('button', { type: 'submit', class: 'primary', disabled: true }, 'Read');
  const followButton = h('button', { type: 'button', class: 'toggle', disabled: true, 'aria-pressed': 'false', onclick: () => setFollowing(!isFollowing) }, 'Follow');
  const search = h('input', { type: 'search', placeholder: 'Find in key or data', 'aria-label': 'Find in what is shown', oninput: () => showRows() });
  const save = h('button', { type: 'button', class: 'quiet', disabled: true, onclick: () => download(`${view.name}.jsonl`, 'application/x-ndjson', `${found().map(asLine).join('\n')}\n`) }, 'Download what is shown');
  const state = h('p', { class: 'reading-state', role: 'status' });
  const error = h('p', { class: 'error', role: 'alert' });
  const body = h('tbody');
  const more = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => readOn() }, 'Read more');
  content.replaceChildren(
    h('form', { class: 'card read-form', onsubmit: (event) => { event.preventDefault(); begin(); } },
      field('Read', shard), field('From', from), timeField, sequenceField, h('div', { class: 'form-buttons' }, readButton, followButton)),
    h('div', { class: 'section-head' }, search, h('span', { class: 'spring' }), save),
    error, state,
    h('div', { class: 'card table-card' }, h('table', { class: 'records' },
      h('thead', {}, h('tr', {}, ['Arrived', 'Shard', 'Key', 'Size', 'Data'].map((text) => h('th', { scope: 'col' }, text)))), body)),
    more);

  function showFields() {
    timeField.hidden = from.value !== 'AT_TIMESTAMP';
    sequenceField.hidden = from.value !== 'AT_SEQUENCE_NUMBER';
  }

  function start() {
    if (from.value === 'AT_TIMESTAMP') return { ShardIteratorType: from.value, Timestamp: new Date(time.value).getTime() / 1_000 };
    if (from.value === 'AT_SEQUENCE_NUMBER') return { ShardIteratorType: from.value, StartingSequenceNumber: sequence.value.trim() };
    return { ShardIteratorType: from.value };
  }

  async function begin() {
    setText(error, '');
    if (from.value === 'AT_TIMESTAMP' && !time.value) return setText(error, 'Choose a time.');
    if (from.value === 'AT_SEQUENCE_NUMBER' && (!shard.value || !sequence.value.trim())) return setText(error, 'A sequence number belongs to one shard: choose both.');
    reading?.stop();
    clearTimeout(timer);
    records = [];
    dropped = 0;
    rows.clear();
    const isFromEnd = from.value === 'LATEST';
    const ids = shard.value ? [shard.value] : firstShards(view.shards, isFromEnd);
    // Only the answers with figures for each shard show which shards have received records.
    const { answer } = view;
    reading = isFromEnd && answer?.shards ? Reading.ofNew(view.name, ids, answer) : new Reading(view.name, start(), ids);
    if (isFromEnd) setFollowing(true);
    showRows();
    await readOn();
  }

  async function readOn() {
    if (!reading || isReading) return;
    const current = reading;
    isReading = true;
    clearTimeout(timer);
    try {
      const found = await current.next(view.answer?.shards, BATCH);
      if (current === reading) add(found);
      setText(error, '');
    } catch (failure) {
      if (failure.name !== 'AbortError') setText(error, words(failure));
      if (failure.name !== 'AbortError') setFollowing(false);
    }
    isReading = false;
    if (current !== reading) {
      readOn();
      return;
    }
    if (isFollowing && !current.isOver) timer = setTimeout(() => (document.hidden ? waitUntilSeen() : readOn()), FOLLOW_MS);
    showState();
  }

  function waitUntilSeen() {
    document.addEventListener('visibilitychange', () => readOn(), { once: true });
  }

  function setFollowing(next) {
    isFollowing = next;
    followButton.setAttribute('aria-pressed', String(next));
    setText(followButton, next ? 'Following' : 'Follow');
    clearTimeout(timer);
    if (next && !reading) begin();
    else if (next) readOn();
    else showState();
  }

  function add(found) {
    if (found.length > 0) {
      records.push(...found.map(open));
      let size = records.reduce((sum, record) => sum + record.bytes.length, 0);
      while (records.length > KEPT || (size > KEPT_BYTES && records.length > 1)) {
        const old = records.shift();
        size -= old.bytes.length;
        rows.get(old)?.forEach((row) => row.remove());
        rows.delete(old);
        dropped += 1;
      }
      showRows();
    }
    showState();
  }

  function found() {
    const wanted = search.value.trim().toLowerCase();
    return wanted === '' ? records : records.filter((record) => contains(record, wanted));
  }

  function makeRow(record) {
    const detail = h('tr', { class: 'detail', hidden: true }, h('td', { colspan: 5 }));
    const button = h('button', {
      type: 'button', class: 'expand', 'aria-expanded': 'false', onclick: () => {
        const isOpen = !detail.hidden;
        detail.hidden = isOpen;
        button.setAttribute('aria-expanded', String(!isOpen));
        detail.firstChild.replaceChildren(...(isOpen ? [] : [details(record, search.value.trim())]));
      },
    }, h('span', { class: 'unseen' }, 'Record of '), clock(record.time), h('small', {}, `.${String(record.time.getMilliseconds()).padStart(3, '0')}`), h('small', { class: 'utc' }, ` ${record.time.toISOString().slice(11, 19)} UTC`));
    const row = h('tr', { class: 'record' }, h('th', { scope: 'row', title: `${localTime(record.time)}, ${utcTime(record.time)}` }, button), h('td', { 'data-label': 'Shard', title: record.shard }, shardNumber(record.shard)),
      h('td', { class: 'mono key', 'data-label': 'Key' }, visible(record.key)), h('td', { 'data-label': 'Size' }, bytes(record.bytes.length)),
      h('td', { class: `preview-text${record.line.isBinary ? ' muted mono' : ''}`, 'data-label': 'Data' }, record.users && h('span', { class: 'badge kpl' }, 'KPL'), ' ', record.line.text));
    rows.set(record, [row, detail]);
    return [row, detail];
  }

  function showRows() {
    const shown = found();
    const elements = shown.flatMap((record) => rows.get(record) ?? makeRow(record));
    // Existing rows are kept, so that they keep the focus and stay open.
    let at = body.firstChild;
    for (const element of elements) {
      if (element === at) at = at.nextSibling;
      else body.insertBefore(element, at);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
    save.disabled = shown.length === 0;
    showState();
  }

  function showState() {
    const shown = found().length;
    let text = reading ? `${counted(shown, 'record')} shown${shown === records.length ? '' : ` of ${count(records.length)}`}.` : 'Choose where to begin, and read.';
    if (dropped > 0) text += ` ${counted(dropped, 'older one')} not kept.`;
    if (reading?.isOver) text += ' This is all: the shard is closed.';
    else if (isFollowing) text += ' New ones appear here.';
    setText(state, text);
    more.hidden = !reading || reading.isOver || isFollowing;
  }

  showFields();
  showState();
  return {
    setShards(shards) {
      readButton.disabled = false;
      followButton.disabled = false;
      const chosen = sessionShard.id ?? shard.value;
      sessionShard.id = undefined;
      shard.replaceChildren(h('option', { value: '' }, 'The whole stream'), ...[...shards.values()].map((each) =>
        h('option', { value: each.id }, `${shardName(each.id)} (${percent(each.to - each.from)}${each.isOpen ? '' : ', closed'})`)));
      shard.value = shards.has(chosen) ? chosen : '';
    },
    leave() {
      reading?.stop();
      reading = undefined;
      isFollowing = false;
      clearTimeout(timer);
    },
  };
}
