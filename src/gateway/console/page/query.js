// SQL over the streams: a statement, run once or live, its rows, and the tables that it may name.

import { ApiError, query, watchQuery, words } from './api.js';
import { choices, field, h, select, setAttribute, setText } from './dom.js';
import { count, counted, duration } from './format.js';
import { resultTable } from './result.js';
import { seriesChart } from './series.js';
import { EXAMPLES, newest, split } from './statements.js';
import { tableList } from './tables.js';

const ROWS = 10_000;
const LIVE_ROWS = 1_000;
const HISTORY = 50;
const DRAW_MS = 250;
const SLIDE_MS = 1_000;
const LABEL = 60;

/** The statements run in this session, newest first, and the draft. They are kept in the memory of the page. */
let earlier = [];
let draft = '';

/** Forgets the statements, because the next key may be somebody else's. */
export function forgetStatements() {
  earlier = [];
  draft = '';
}

/** Shows the page. If a stream is named, the page starts with its newest records. Returns a function that leaves the page. */
export function queryView(main, stream) {
  document.title = 'Query – streamlog';
  let running;
  let isLive = false;
  let place = -1;
  let timer;
  let sliding;
  let draw = () => {};

  const statement = h('textarea', {
    rows: 7, spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', class: 'statement',
    'aria-keyshortcuts': 'Control+Enter Meta+Enter Alt+ArrowUp Alt+ArrowDown', onkeydown: onKey,
    oninput: () => { draft = statement.value; place = -1; },
  });
  const run = h('button', { type: 'submit', class: 'primary' }, 'Run');
  const stop = h('button', { type: 'button', disabled: true, onclick: () => end('Stopped.') }, 'Stop');
  const mode = choices('How it runs', [['once', 'Once'], ['live', 'Live']], 'once', (value) => setLive(value === 'live'));
  const from = select([['LATEST', 'From now on'], ['TRIM_HORIZON', 'From the oldest record']], { 'aria-label': 'Where it begins' });
  const history = h('select', { 'aria-label': 'Earlier statements', onchange: () => { recall(Number(history.value)); history.value = ''; statement.focus(); } });
  const problem = h('div', { class: 'problem', role: 'alert', hidden: true });
  const state = h('p', { class: 'reading-state', role: 'status' });
  const counts = h('p', { class: 'hint' });
  const notes = h('ul', { class: 'plain-list notes' });
  const table = resultTable();
  const chart = seriesChart();
  const tables = tableList({ insert, describe: (name) => query({ Statement: `DESCRIBE ${name}` }), onShown: begin });
  const examples = h('ul', { class: 'plain-list examples' });

  main.replaceChildren(
    h('div', { class: 'page-head' }, h('h1', {}, 'Query')),
    h('div', { class: 'query' },
      h('div', { class: 'query-main' },
        h('form', { class: 'card query-form', onsubmit: (event) => { event.preventDefault(); start(); } },
          field('Statement', statement, 'Once runs over what is there, and live over what comes. Ctrl+Enter runs it. Alt+↑ and Alt+↓ go through earlier ones.'), problem,
          h('div', { class: 'query-tools' }, run, stop, mode.element, from, h('span', { class: 'spring' }), history)),
        state, counts, notes, chart.element, table.element),
      h('aside', { class: 'query-side', 'aria-label': 'What statements may name' }, tables.element,
        h('section', { class: 'card' }, h('h2', {}, 'Examples'), examples))));

  function onKey(event) {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      start();
    } else if (event.altKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
      event.preventDefault();
      recall(place + (event.key === 'ArrowUp' ? 1 : -1));
    }
  }

  /** Puts an earlier statement into the field. 0 is the newest one, and -1 is the draft. */
  function recall(to) {
    if (to < -1 || to >= earlier.length) return;
    place = to;
    statement.value = to === -1 ? draft : earlier[to];
  }

  function insert(text) {
    statement.setRangeText(text, statement.selectionStart, statement.selectionEnd, 'end');
    draft = statement.value;
    statement.focus();
  }

  function setLive(live) {
    isLive = live;
    from.hidden = !live;
    const input = mode.element.querySelector(`input[value=${live ? 'live' : 'once'}]`);
    input.checked = true;
  }

  function showHistory() {
    history.hidden = earlier.length === 0;
    history.replaceChildren(h('option', { value: '' }, 'Earlier statements'), ...earlier.map((text, at) => {
      const line = text.replace(/\s+/g, ' ').trim();
      return h('option', { value: at }, line.length > LABEL ? `${line.slice(0, LABEL)}…` : line);
    }));
  }

  function remember(text) {
    earlier = [text, ...earlier.filter((other) => other !== text)].slice(0, HISTORY);
    draft = text;
    place = -1;
    showHistory();
  }

  /** Fills in a statement that shows some records, unless the user has written one before. */
  function begin(names) {
    const shown = stream ?? names[0];
    examples.replaceChildren(...EXAMPLES.map(({ title, live, text }) => h('li', {}, h('button', {
      type: 'button', class: 'link', disabled: names.length === 0, onclick: () => {
        statement.value = text(shown);
        draft = statement.value;
        setLive(live);
        statement.focus();
      },
    }, title), live && h('span', { class: 'badge' }, 'live'))));
    if (shown && (stream || draft === '') && statement.value === draft) {
      statement.value = newest(shown);
      draft = statement.value;
    }
  }

  function showProblem(error) {
    const [text, where, marked] = split(words(error));
    problem.hidden = false;
    problem.replaceChildren(h('p', {}, text.charAt(0).toUpperCase() + text.slice(1)), where && h('pre', { tabindex: 0, role: 'group', 'aria-label': 'The place in the statement' }, where));
    if (marked && document.activeElement === statement) {
      const at = statement.value.split('\n').slice(0, marked.line - 1).reduce((sum, line) => sum + line.length + 1, 0) + marked.column;
      statement.setSelectionRange(at, at);
    }
  }

  function showNotes(texts) {
    notes.replaceChildren(...texts.map((text) => h('li', { class: 'notice' }, text)));
  }

  function setRunning(abort) {
    running = abort;
    stop.disabled = !abort;
    setAttribute(table.element, 'aria-busy', abort && !isLive ? 'true' : undefined);
  }

  /** Ends the running statement. */
  function end(text) {
    running?.abort();
    setRunning(undefined);
    clearInterval(sliding);
    if (timer !== undefined) {
      clearTimeout(timer);
      draw();
    }
    if (text) setText(state, text);
  }

  async function start() {
    end();
    const text = statement.value;
    if (text.trim() === '') return;
    remember(text);
    problem.hidden = true;
    showNotes([]);
    setText(counts, '');
    chart.hide();
    table.clear();
    const abort = new AbortController();
    setRunning(abort);
    setText(state, isLive ? 'The live query begins.' : 'The query runs.');
    try {
      await (isLive ? runLive(text, abort) : runOnce(text, abort));
    } catch (error) {
      if (error.name === 'AbortError' || running !== abort) return;
      end('');
      setText(state, '');
      showProblem(error);
    }
  }

  async function runOnce(Statement, abort) {
    const answer = await query({ Statement, MaxRows: ROWS }, { signal: abort.signal });
    if (running !== abort) return;
    end();
    table.show(answer.Columns, answer.Rows);
    showNotes([...answer.Notes, ...leftOut(answer)]);
    const more = answer.HasMoreRows ? ' There are more: the answer was cut here.' : '';
    setText(state, `${counted(answer.Rows.length, 'row')} in ${duration(answer.TookMillis)}.${more}`);
  }

  async function runLive(Statement, abort) {
    const rows = [];
    let columns = [];
    let total = 0;
    draw = () => {
      timer = undefined;
      table.append(columns, rows, total);
      chart.draw();
    };
    const onLine = (line) => {
      if (running !== abort) return;
      if (line.Error) throw new ApiError(line.Error.Type, line.Error.Message);
      if (line.Notes) {
        showNotes(line.Notes);
        setText(state, 'Live. Rows appear here as they are made.');
      }
      if (line.Counts) setText(counts, said(line.Counts));
      if (line.Columns) {
        columns = line.Columns;
        chart.begin(columns);
      }
      if (!line.Rows) return;
      const now = Date.now();
      total += line.Rows.length;
      for (const row of line.Rows) {
        rows.unshift(row);
        chart.add(row, now);
      }
      rows.splice(LIVE_ROWS);
      timer ??= setTimeout(() => draw(), DRAW_MS);
    };
    sliding = setInterval(() => chart.draw(), SLIDE_MS);
    await watchQuery({ Statement, StartingPosition: { Type: from.value } }, { signal: abort.signal, onLine });
    if (running === abort) end('The server has ended the live query.');
  }

  setLive(false);
  showHistory();
  statement.value = draft;
  query({ Statement: 'SHOW TABLES', MaxRows: ROWS }).then(
    (answer) => tables.show(answer.Rows.map(([name]) => name)),
    (error) => { tables.show([]); showProblem(error); });
  return () => end();
}

function leftOut({ RefusedRecords, RefusedExamples, SkippedRecords }) {
  const texts = [];
  if (RefusedRecords > 0) {
    const [first] = RefusedExamples;
    texts.push(`${counted(RefusedRecords, 'record')} left out, which ${RefusedRecords === 1 ? 'does' : 'do'} not fit the columns${first ? `, such as number ${count(first.Sequence)} of ${first.ShardId} in ${first.StreamName}: ${first.Reason}` : ''}.`);
  }
  if (SkippedRecords > 0) texts.push(`${counted(SkippedRecords, 'record')} left out, which had expired before they were read.`);
  return texts;
}

function said(counts) {
  const parts = [`${counted(counts.RecordsIn, 'record')} read`, `${counted(counts.RowsOut, 'row')} made`];
  if (counts.HeldRows > 0) parts.push(`${counted(counts.HeldRows, 'row')} in open windows`);
  if (counts.RefusedRecords > 0) parts.push(`${count(counts.RefusedRecords)} left out, which do not fit`);
  if (counts.LateRows > 0) parts.push(`${count(counts.LateRows)} too late for their window`);
  if (counts.SkippedRecords > 0) parts.push(`${count(counts.SkippedRecords)} gone before they were read`);
  if (counts.BehindMillis >= 1_000) parts.push(`${duration(counts.BehindMillis)} behind`);
  return `${parts.join(', ')}.`;
}
