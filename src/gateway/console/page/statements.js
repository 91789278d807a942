// The text of statements: quoted names, examples, and the position that an error marks.

const WORDS = new Set([
  'all', 'and', 'as', 'by', 'case', 'create', 'cross', 'date', 'desc', 'distinct', 'else', 'end', 'except', 'exists', 'false', 'from', 'full', 'group', 'having',
  'in', 'inner', 'insert', 'intersect', 'interval', 'into', 'is', 'join', 'left', 'like', 'limit', 'natural', 'not', 'null', 'offset', 'on', 'or', 'order', 'outer',
  'over', 'partition', 'range', 'right', 'rows', 'select', 'session', 'set', 'stream', 'table', 'then', 'time', 'timestamp', 'to', 'true', 'union', 'unnest', 'user',
  'using', 'values', 'when', 'where', 'window', 'with',
]);

/** Returns a name, quoted if a statement requires that. */
export function quoted(name) {
  const isPlain = /^[a-z_][a-z0-9_]*$/i.test(name) && !WORDS.has(name.toLowerCase());
  return isPlain ? name : `"${name.replaceAll('"', '""')}"`;
}

/** Returns the statement for the newest records of a stream. */
export function newest(name) {
  return `SELECT _arrival, _shard, _key, CAST(_data AS VARCHAR) AS data\nFROM ${quoted(name)}\nORDER BY _arrival DESC\nLIMIT 100`;
}

export const EXAMPLES = [
  { title: 'The newest records', live: false, text: newest },
  {
    title: 'Records a minute', live: false,
    text: (name) => `SELECT date_bin(INTERVAL '1 minute', _arrival) AS minute, count(*) AS records\nFROM ${quoted(name)}\nGROUP BY 1\nORDER BY 1 DESC`,
  },
  {
    title: 'The keys with most records', live: false,
    text: (name) => `SELECT _key, count(*) AS records\nFROM ${quoted(name)}\nGROUP BY _key\nORDER BY records DESC\nLIMIT 20`,
  },
  {
    title: 'Each record as it comes', live: true,
    text: (name) => `SELECT _arrival, _shard, _key, CAST(_data AS VARCHAR) AS data\nFROM ${quoted(name)}`,
  },
  {
    title: 'Records a second', live: true,
    text: (name) => `SELECT window_end, count(*) AS records\nFROM TABLE(TUMBLE(TABLE ${quoted(name)}, DESCRIPTOR(_arrival), INTERVAL '1' SECOND))\nGROUP BY window_start, window_end`,
  },
];

/** Splits an error: the message, the line of the statement with the mark under it, and the position, from line 1 and column 0. */
export function split(text) {
  const found = /^([\s\S]*?)\n((\d+) \| (.*)\n( *\| )( *)\^+)$/.exec(text);
  if (!found) return [text, undefined, undefined];
  const [, message, where, line, shown, , before] = found;
  const marked = shown.startsWith('…') ? undefined : { line: Number(line), column: before.length };
  return [message, where, marked];
}
