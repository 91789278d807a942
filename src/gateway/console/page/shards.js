// The shards of a stream, with their ranges of hash keys, their parents and their children.

import { kinesis } from './api.js';

export const KEYS = 1n << 128n;

/** Returns the position of a hash key in the whole key space, from 0 to 1. */
export function fraction(key) {
  return Number(key >> 75n) / 2 ** 53;
}

/** Returns a hash key in hexadecimal, in groups of eight digits. */
export function hexKey(key) {
  return key.toString(16).padStart(32, '0').replace(/(.{8})(?=.)/g, '$1 ');
}

function parse(shard) {
  const { StartingHashKey: start, EndingHashKey: end } = shard.HashKeyRange;
  return {
    id: shard.ShardId,
    start: BigInt(start),
    end: BigInt(end),
    from: fraction(BigInt(start)),
    to: fraction(BigInt(end) + 1n),
    parents: [shard.ParentShardId, shard.AdjacentParentShardId].filter(Boolean),
    children: [],
    isOpen: shard.SequenceNumberRange.EndingSequenceNumber === undefined,
    firstSequence: shard.SequenceNumberRange.StartingSequenceNumber,
    depth: 0,
  };
}

/** Returns the shards by id: those that are open or hold records, parents before children. */
export async function loadShards(stream, options) {
  const shards = new Map();
  let input = { StreamName: stream };
  do {
    const page = await kinesis('ListShards', input, options);
    for (const shard of page.Shards) shards.set(shard.ShardId, parse(shard));
    input = page.NextToken ? { NextToken: page.NextToken } : undefined;
  } while (input);
  relate(shards);
  return shards;
}

/** Adds children and generations. The list has parents before their children. */
function relate(shards) {
  for (const shard of shards.values()) {
    for (const parent of shard.parents.map((id) => shards.get(id)).filter(Boolean)) {
      parent.children.push(shard.id);
      shard.depth = Math.max(shard.depth, parent.depth + 1);
    }
  }
}

/** Returns the open shards in the order of their hash keys. */
export function openShards(shards) {
  const open = [...shards.values()].filter((shard) => shard.isOpen);
  return open.sort((a, b) => (a.start < b.start ? -1 : 1));
}

/** Returns the ranges of a number of shards that divide the whole key space equally. */
export function evenRanges(count) {
  return Array.from({ length: count }, (_, at) => ({ from: at / count, to: (at + 1) / count }));
}
