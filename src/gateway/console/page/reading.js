// Reads shards from a position on, in order, with few requests.

import { kinesis } from './api.js';

const BATCH = 500;
const AT_ONCE = 4;
const ROUNDS = 5;
const BLIND_SHARDS = 8;

/** Makes a record of a shard from the server's answer. */
function record(shard, answered) {
  return {
    shard, sequence: answered.SequenceNumber, key: answered.PartitionKey, data: answered.Data,
    time: new Date(answered.ApproximateArrivalTimestamp * 1_000), headers: answered.Headers ?? [],
  };
}

/**
 * Reads one shard or all shards of a stream.
 *
 * When a closed shard has been read to its end, a child of it follows once all parents of the child have been read.
 */
export class Reading {
  #places = new Map();
  #done = new Set();
  #abort = new AbortController();

  constructor(stream, start, ids) {
    this.stream = stream;
    ids.forEach((id) => this.#places.set(id, { id, start }));
  }

  /** Returns a reading of new records only. It asks only shards that have received records since. */
  static ofNew(stream, ids, { time, shards }) {
    const reading = new Reading(stream, { ShardIteratorType: 'AT_TIMESTAMP', Timestamp: time / 1_000 }, ids);
    for (const place of reading.#places.values()) {
      place.isAtEnd = true;
      place.seen = shards.get(place.id)?.IncomingRecords;
    }
    return reading;
  }

  stop() {
    this.#abort.abort();
  }

  get isOver() {
    return this.#places.size === 0;
  }

  /** Returns whether a shard may have unread records, or was closed, so that its children follow. */
  #isWaiting(place, stats) {
    const now = stats?.get(place.id);
    return !place.isAtEnd || now === undefined || now.ClosedMillis !== undefined || now.IncomingRecords !== place.seen;
  }

  /**
   * Returns the next records, or none if all shards are at their ends. Does not ask shards that have nothing new according to
   * `stats`.
   */
  async next(stats, limit = BATCH) {
    const records = [];
    // Several rounds: an answer may leave out records because of their size, and a shard may end and be followed by its children.
    for (let round = 0; round < ROUNDS && records.length < limit; round += 1) {
      const waiting = [...this.#places.values()].filter((place) => (round === 0 ? this.#isWaiting(place, stats) : !place.isAtEnd));
      // The shards that have waited longest come first. Without `stats`, only a few are asked.
      waiting.sort((a, b) => (a.askedAt ?? 0) - (b.askedAt ?? 0)).splice(stats ? Infinity : BLIND_SHARDS);
      if (waiting.length === 0) break;
      for (let at = 0; at < waiting.length && records.length < limit; at += AT_ONCE) {
        const some = waiting.slice(at, at + AT_ONCE).map((place) => this.#read(place, stats, limit));
        for (const found of await Promise.all(some)) records.push(...found);
      }
    }
    // Records of several shards are sorted by time. Those of one shard keep its order.
    const isOne = records.every((each) => each.shard === records[0].shard);
    return isOne ? records : records.sort((a, b) => a.time - b.time);
  }

  async #read(place, stats, limit) {
    const options = { signal: this.#abort.signal };
    place.askedAt = performance.now();
    const seen = stats?.get(place.id)?.IncomingRecords;
    if (!place.iterator) {
      const { ShardIterator } = await kinesis('GetShardIterator', { StreamName: this.stream, ShardId: place.id, ...place.start }, options);
      place.iterator = ShardIterator;
    }
    let answer;
    try {
      answer = await kinesis('GetRecords', { ShardIterator: place.iterator, Limit: limit }, options);
    } catch (error) {
      if (error.kind === 'ExpiredIteratorException') {
        place.iterator = undefined;
        if (place.last) place.start = { ShardIteratorType: 'AFTER_SEQUENCE_NUMBER', StartingSequenceNumber: place.last };
        return [];
      }
      // The shard is asked again in the next round.
      if (error.kind === 'ProvisionedThroughputExceededException') return [];
      throw error;
    }
    place.iterator = answer.NextShardIterator;
    place.isAtEnd = answer.MillisBehindLatest === 0;
    if (place.isAtEnd) place.seen = seen;
    place.last = answer.Records.at(-1)?.SequenceNumber ?? place.last;
    if (!place.iterator) this.#finish(place.id, answer.ChildShards ?? []);
    return answer.Records.map((each) => record(place.id, each));
  }

  #finish(id, children) {
    this.#places.delete(id);
    this.#done.add(id);
    for (const child of children) {
      const isReady = child.ParentShards.every((parent) => this.#done.has(parent) || !this.#places.has(parent));
      if (isReady && !this.#done.has(child.ShardId) && !this.#places.has(child.ShardId)) {
        this.#places.set(child.ShardId, { id: child.ShardId, start: { ShardIteratorType: 'TRIM_HORIZON' } });
      }
    }
  }
}

/** Returns the shards of a stream that a reading begins with. */
export function firstShards(shards, isFromEnd) {
  const all = [...shards.values()];
  if (isFromEnd) return all.filter((shard) => shard.isOpen).map((shard) => shard.id);
  return all.filter((shard) => shard.parents.every((parent) => !shards.has(parent))).map((shard) => shard.id);
}
