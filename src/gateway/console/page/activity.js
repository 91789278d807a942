// What goes on: one question to the server every two seconds, for what is visible, and what was answered before.

import { ApiError, describeActivity, kinesis, session } from './api.js';

const EVERY_MS = 2_000;
const RECENT = 60;
const HOUR_POINTS = 1_800;
const DAY_POINTS = 1_440;
const DEEP_MAX = 4;
const TOTALS = {
  inBytes: 'IncomingBytes', inRecords: 'IncomingRecords', outBytes: 'OutgoingBytes', outRecords: 'OutgoingRecords',
  writeThrottled: 'WriteThrottledRecords', readThrottled: 'ReadThrottledCalls',
};
const FIELDS = [...Object.keys(TOTALS), 'age'];

/** The last points of a line, in arrays that do not grow. */
class Ring {
  #at = 0;

  constructor(capacity) {
    this.capacity = capacity;
    this.length = 0;
    this.times = new Float64Array(capacity);
    this.values = Object.fromEntries(FIELDS.map((field) => [field, new Float32Array(capacity)]));
  }

  push(time, values) {
    this.times[this.#at] = time;
    for (const field of FIELDS) this.values[field][this.#at] = values[field] ?? NaN;
    this.#at = (this.#at + 1) % this.capacity;
    this.length = Math.min(this.length + 1, this.capacity);
  }

  /** Returns the points since a time, oldest first, without those at which there was no value. */
  since(time, field) {
    const points = [];
    for (let index = 0; index < this.length; index += 1) {
      const at = (this.#at - this.length + index + this.capacity) % this.capacity;
      if (this.times[at] >= time && !Number.isNaN(this.values[field][at])) points.push([this.times[at], this.values[field][at]]);
    }
    return points;
  }
}

/** The history of a stream. Of streams that were looked at it has an hour in steps of two seconds, and a day in minutes. */
class History {
  #last;
  #minute;
  #hour;
  #day;
  #recent = new Ring(RECENT);
  now = {};

  deepen() {
    this.#hour ??= new Ring(HOUR_POINTS);
    this.#day ??= new Ring(DAY_POINTS);
  }

  flatten() {
    this.#hour = undefined;
    this.#day = undefined;
  }

  add(time, described) {
    this.now = rates(this.#last, time, described);
    const isFirst = this.#last === undefined;
    this.#last = { time, described };
    if (isFirst || this.now.inBytes === undefined) {
      this.#minute = this.#last;
      return;
    }
    this.#recent.push(time, this.now);
    this.#hour?.push(time, this.now);
    if (time - this.#minute.time >= 60_000) {
      this.#day?.push(time, rates(this.#minute, time, described));
      this.#minute = this.#last;
    }
  }

  since(time, field, spanMs) {
    const ring = spanMs > 3_600_000 ? this.#day : this.#hour;
    return (ring ?? this.#recent).since(time, field);
  }

  recent(field) {
    return this.#recent.since(0, field);
  }
}

/** Returns rates per second from two answers. Totals that fall were counted from 0 again. */
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

/** Returns the history of a stream. */
export function historyOf(stream) {
  if (!histories.has(stream)) histories.set(stream, new History());
  return histories.get(stream);
}

/** Forgets everything: the next key may see less. */
export function forgetAll() {
  histories.clear();
  shardTotals.clear();
  deep = [];
}

function deepen(stream) {
  deep = [stream, ...deep.filter((other) => other !== stream)];
  deep.splice(DEEP_MAX).forEach((other) => histories.get(other)?.flatten());
  historyOf(stream).deepen();
}

/** Keeps asking until it is stopped, but not while nobody looks. Returns how to stop it and how to ask at once. */
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
  let after;
  let answer;
  try {
    do {
      answer = await describeActivity(after ? { ExclusiveStartStreamName: after } : {});
      streams.push(...answer.Streams);
      after = answer.Streams.at(-1)?.StreamName;
    } while (answer.HasMoreStreams);
  } catch (error) {
    if (!cannotTell(error)) throw error;
    return askAllPlainly(error);
  }
  for (const described of streams) historyOf(described.StreamName).add(answer.TimeMillis, described);
  const names = new Set(streams.map((described) => described.StreamName));
  for (const name of histories.keys()) if (!names.has(name)) histories.delete(name);
  return { time: answer.TimeMillis, streams, allowed: new Set(answer.AllowedOperations) };
}

/** Asks in Kinesis' own words, which have no rates and no sizes. */
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
  let answer;
  try {
    answer = await describeActivity({ StreamName: stream, IncludeConsumers });
  } catch (error) {
    if (error.kind === 'AccessDeniedException') return askStreamPlainly(stream);
    throw error;
  }
  const time = answer.TimeMillis;
  const [described] = answer.Streams;
  historyOf(stream).add(time, described);
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
    consumers: answer.Consumers, groups: answer.Groups,
  };
}

async function askStreamPlainly(stream) {
  const { StreamDescriptionSummary: summary } = await kinesis('DescribeStreamSummary', { StreamName: stream });
  return { time: Date.now(), described: { ...summary, StreamMode: summary.StreamModeDetails?.StreamMode } };
}
