// Activity: asks the server every two seconds about what is visible, and keeps the answers. For the time before the first request,
// the history comes from the server, which keeps a day of it.

import { ApiError, describeActivity, kinesis, session } from './api.js';

const EVERY_MS = 2_000;
const RECENT = 60;
const HOUR_POINTS = 1_800;
const DAY_POINTS = 1_440;
const DEEP_MAX = 4;
const READERS_MAX = 50;
/** After a longer pause than this, the page asks the server for the history that it missed. */
const PAUSE_MS = 10_000;
const TOTALS = {
  inBytes: 'IncomingBytes', inRecords: 'IncomingRecords', outBytes: 'OutgoingBytes', outRecords: 'OutgoingRecords',
  writeThrottled: 'WriteThrottledRecords', readThrottled: 'ReadThrottledCalls',
};
const FIELDS = { ...TOTALS, age: 'IteratorAgeMilliseconds' };
const CONSUMER_FIELDS = { behind: 'MillisBehindLatest' };
const GROUP_FIELDS = { behind: 'LagMillis', records: 'LagRecords' };

/** The last points of a line, in arrays of a fixed size. */
class Ring {
  #at = 0;

  constructor(capacity, fields) {
    this.capacity = capacity;
    this.length = 0;
    this.fields = Object.keys(fields);
    this.times = new Float64Array(capacity);
    this.values = Object.fromEntries(this.fields.map((field) => [field, new Float32Array(capacity)]));
  }

  push(time, values) {
    this.times[this.#at] = time;
    for (const field of this.fields) this.values[field][this.#at] = values[field] ?? NaN;
    this.#at = (this.#at + 1) % this.capacity;
    this.length = Math.min(this.length + 1, this.capacity);
  }

  /** Returns the points since a time, oldest first. A point without a value has `NaN`. */
  since(time, field) {
    const points = [];
    for (let index = 0; index < this.length; index += 1) {
      const at = (this.#at - this.length + index + this.capacity) % this.capacity;
      if (this.times[at] >= time) points.push([this.times[at], this.values[field][at]]);
    }
    return points;
  }
}

/** Returns the points of lines from the server, oldest first. A coarser line adds only the points before those of the finer ones. */
function pointsOf(lines, fields) {
  let points = [];
  for (const line of lines) {
    const names = Object.entries(fields);
    const length = line[names[0][1]].length;
    const [earliest] = points[0] ?? [Infinity];
    const coarser = Array.from({ length }, (_, at) => [
      line.EndMillis - (length - 1 - at) * line.StepMillis,
      Object.fromEntries(names.map(([field, name]) => [field, line[name][at] ?? undefined])),
    ]);
    points = [...coarser.filter(([time]) => time < earliest), ...points];
  }
  return points;
}

/** The last hour in steps of two seconds and the last day in minutes. Points from before the page began to watch have the server's steps. */
class Past {
  #minute = 0;

  constructor(lines, fields) {
    this.hour = new Ring(HOUR_POINTS, fields);
    this.day = new Ring(DAY_POINTS, fields);
    for (const [time, values] of pointsOf(lines, fields)) this.hour.push(time, values);
    for (const [time, values] of pointsOf(lines.filter((line) => line.StepMillis >= 30_000), fields)) this.day.push(time, values);
  }

  add(time, values) {
    this.hour.push(time, values);
    if (time - this.#minute < 60_000) return;
    this.#minute = time;
    this.day.push(time, values);
  }

  since(time, field, spanMs) {
    return (spanMs > 3_600_000 ? this.day : this.hour).since(time, field);
  }
}

/** The history of a stream. The streams that the user opened last have a longer one. */
class History {
  #last;
  #minute;
  #past;
  #heard = -Infinity;
  #readersHeard = -Infinity;
  #recent = new Ring(RECENT, FIELDS);
  readers = new Map();
  now = {};

  /** Returns whether history is missing, so that the page must ask the server for it. */
  isMissingPast(withReaders) {
    return !this.#past || performance.now() - (withReaders ? this.#readersHeard : this.#heard) > PAUSE_MS;
  }

  flatten() {
    this.#past = undefined;
    this.readers.clear();
    this.#readersHeard = -Infinity;
  }

  /** Loads the last minutes that the server has kept. */
  beginRecent(lines) {
    this.#last = undefined;
    this.#recent = new Ring(RECENT, FIELDS);
    const { inBytes, inRecords, outBytes, outRecords } = TOTALS;
    const points = pointsOf(lines, { inBytes, inRecords, outBytes, outRecords });
    for (const [time, values] of points) this.#recent.push(time, values);
    [, this.now] = points.at(-1) ?? [0, {}];
  }

  /** Loads the history that the server has kept. */
  begin({ History: lines = [], ReaderHistory: readers }) {
    this.#past = new Past(lines, FIELDS);
    this.#last = undefined;
    [, this.now] = pointsOf(lines.slice(0, 1), FIELDS).at(-1) ?? [0, {}];
    if (!readers) return;
    this.readers.clear();
    for (const { ConsumerName, GroupName, Lines } of readers) {
      const past = ConsumerName ? new Past(Lines, CONSUMER_FIELDS) : new Past(Lines, GROUP_FIELDS);
      this.readers.set(ConsumerName ? `consumer ${ConsumerName}` : `group ${GroupName}`, past);
    }
  }

  add(time, described) {
    this.#heard = performance.now();
    const now = rates(this.#last, time, described);
    const isFirst = this.#last === undefined;
    this.#last = { time, described };
    // A rate needs two answers. Until then, only the server's history is known.
    this.now = isFirst ? { ...this.now, ...now } : now;
    if (isFirst || now.inBytes === undefined) {
      this.#minute = this.#last;
      return;
    }
    this.#recent.push(time, now);
    this.#past?.hour.push(time, now);
    if (time - this.#minute.time >= 60_000) {
      this.#past?.day.push(time, rates(this.#minute, time, described));
      this.#minute = this.#last;
    }
  }

  /** Adds how far the readers are behind. A reader that is gone gets a point without a value. */
  addReaders(time, consumers, groups) {
    this.#readersHeard = performance.now();
    const now = new Map();
    for (const { ConsumerName, Subscriptions } of consumers) {
      const behind = Subscriptions.map((each) => each.MillisBehindLatest);
      now.set(`consumer ${ConsumerName}`, behind.length > 0 ? { behind: Math.max(...behind) } : {});
    }
    for (const { GroupName, LagMillis, LagRecords } of groups) now.set(`group ${GroupName}`, { behind: LagMillis, records: LagRecords });
    for (const reader of now.keys()) {
      const fields = reader.startsWith('consumer') ? CONSUMER_FIELDS : GROUP_FIELDS;
      if (!this.readers.has(reader) && this.readers.size < READERS_MAX) this.readers.set(reader, new Past([], fields));
    }
    for (const [reader, past] of this.readers) past.add(time, now.get(reader) ?? {});
  }

  since(time, field, spanMs) {
    return this.#past ? this.#past.since(time, field, spanMs) : this.#recent.since(time, field);
  }

  recent(field) {
    return this.#recent.since(0, field);
  }
}

/** Returns rates per second from two answers. If totals have fallen, they restarted from 0, and there are no rates. */
function rates(last, time, described) {
  const now = { age: described.IteratorAgeMilliseconds };
  const seconds = last ? (time - last.time) / 1_000 : 0;
  if (seconds <= 0 || described.IncomingBytes < last.described.IncomingBytes) return now;
  for (const [field, total] of Object.entries(TOTALS)) {
    now[field] = Math.max(0, described[total] - last.described[total]) / seconds;
  }
  return now;
}

const histories = new Map();
const shardTotals = new Map();
let deep = [];
let allHeard = -Infinity;

/** Returns the history of a stream. */
export function historyOf(stream) {
  if (!histories.has(stream)) histories.set(stream, new History());
  return histories.get(stream);
}

/** Forgets everything, because the next key may be allowed to see less. */
export function forgetAll() {
  histories.clear();
  shardTotals.clear();
  deep = [];
  allHeard = -Infinity;
}

function deepen(stream) {
  deep = [stream, ...deep.filter((other) => other !== stream)];
  deep.splice(DEEP_MAX).forEach((other) => histories.get(other)?.flatten());
}

/** Asks the server repeatedly until it is stopped, except while the page is hidden. Returns functions to stop and to ask at once. */
export function watch({ stream, consumers }, onAnswer, onError) {
  let timer;
  let isStopped = false;
  let isAsking = false;
  let askAgain = false;
  const wantsConsumers = () => consumers?.() === true;
  if (stream) deepen(stream);

  async function ask() {
    clearTimeout(timer);
    if (isStopped || document.hidden) return;
    if (isAsking) {
      askAgain = true;
      return;
    }
    isAsking = true;
    try {
      const answer = await (stream ? askStream(stream, wantsConsumers()) : askAll());
      if (!isStopped) onAnswer(answer);
    } catch (error) {
      if (!isStopped) onError(error);
    }
    isAsking = false;
    if (askAgain) {
      askAgain = false;
      ask();
    } else if (!isStopped) timer = setTimeout(ask, EVERY_MS);
  }
  const onVisible = () => ask();
  document.addEventListener('visibilitychange', onVisible);
  ask();
  return {
    ask,
    stop() {
      isStopped = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onVisible);
    },
  };
}

function cannotTell(error) {
  return error instanceof ApiError && ['AccessDeniedException', 'UnknownOperationException'].includes(error.kind);
}

async function askAll() {
  if (session.isBlind) return askAllPlainly();
  const streams = [];
  const IncludeHistory = performance.now() - allHeard > PAUSE_MS;
  let after;
  let answer;
  try {
    do {
      answer = await describeActivity({ IncludeHistory, ...(after && { ExclusiveStartStreamName: after }) });
      streams.push(...answer.Streams);
      after = answer.Streams.at(-1)?.StreamName;
    } while (answer.HasMoreStreams);
  } catch (error) {
    if (!cannotTell(error)) throw error;
    return askAllPlainly(error);
  }
  allHeard = performance.now();
  for (const { History: lines, ...described } of streams) {
    const history = historyOf(described.StreamName);
    if (lines) history.beginRecent(lines);
    history.add(answer.TimeMillis, described);
  }
  const names = new Set(streams.map((described) => described.StreamName));
  for (const name of histories.keys()) if (!names.has(name)) histories.delete(name);
  return { time: answer.TimeMillis, streams, allowed: new Set(answer.AllowedOperations), mayCreate: answer.MayCreateStreams };
}

/** Asks with plain Kinesis operations, which return no rates and no sizes. */
async function askAllPlainly() {
  const streams = [];
  let page;
  do {
    page = await kinesis('ListStreams', page ? { NextToken: page.NextToken } : {});
    streams.push(...(page.StreamSummaries ?? page.StreamNames.map((StreamName) => ({ StreamName }))));
  } while (page.NextToken);
  session.isBlind = true;
  return {
    time: Date.now(),
    streams: streams.map((summary) => ({ ...summary, StreamMode: summary.StreamModeDetails?.StreamMode })),
  };
}

async function askStream(stream, IncludeConsumers) {
  if (session.isBlind) return askStreamPlainly(stream);
  const history = historyOf(stream);
  const IncludeHistory = history.isMissingPast(IncludeConsumers);
  let answer;
  try {
    answer = await describeActivity({ StreamName: stream, IncludeConsumers, IncludeHistory });
  } catch (error) {
    if (error.kind === 'AccessDeniedException') return askStreamPlainly(stream);
    throw error;
  }
  const time = answer.TimeMillis;
  const [described] = answer.Streams;
  if (IncludeHistory) history.begin(answer);
  history.add(time, described);
  if (answer.Consumers) history.addReaders(time, answer.Consumers, answer.Groups);
  const shards = new Map();
  for (const shard of answer.Shards) {
    const key = `${stream}/${shard.ShardId}`;
    shards.set(shard.ShardId, { ...shard, now: rates(shardTotals.get(key), time, shard) });
    shardTotals.set(key, { time, described: shard });
  }
  for (const key of shardTotals.keys()) {
    const [name, id] = key.split('/');
    if (name !== stream || !shards.has(id)) shardTotals.delete(key);
  }
  return {
    time, described, shards, allowed: new Set(answer.AllowedOperations),
    consumers: answer.Consumers, groups: answer.Groups, queues: answer.Queues,
  };
}

async function askStreamPlainly(stream) {
  const { StreamDescriptionSummary: summary } = await kinesis('DescribeStreamSummary', { StreamName: stream });
  return { time: Date.now(), described: { ...summary, StreamMode: summary.StreamModeDetails?.StreamMode } };
}
