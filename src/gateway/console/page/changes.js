// The changes that can be made to a stream, each with a preview of what will happen and its limits in words.

import { kinesis, server } from './api.js';
import { choices, field, h, select } from './dom.js';
import { openDialog } from './dialog.js';
import { bytes, count, counted, hours, percent, shardName } from './format.js';
import { beforeAndAfter, rangesBar } from './ranges.js';
import { evenRanges, fraction, hexKey, openShards } from './shards.js';

const SHARDS_MAX = 1_024;
const HOURS_MIN = 24;
const HOURS_MAX = 8_760;

/** Describes the write and read capacity of a number of shards, in words. */
function capacity(shards) {
  const { writeBytes, writeRecords, readBytes } = server.limits;
  if (!writeBytes && !writeRecords) return 'This server does not limit what a shard takes; more shards let more threads write and read side by side.';
  return `Together they take ${bytes(shards * writeBytes)} or ${count(shards * writeRecords)} records a second, and hand out ${bytes(shards * readBytes)} a second.`;
}

const dailyLimit = () => (server.limits.writeBytes ? ' At most ten times in 24 hours.' : '');

const number = (attributes) => h('input', { type: 'number', inputmode: 'numeric', step: 1, required: true, ...attributes });

export async function createStream() {
  const name = h('input', { type: 'text', required: true, pattern: '[a-zA-Z0-9_.\\-]+', maxlength: 128, autocomplete: 'off', spellcheck: 'false' });
  const shards = number({ min: 1, max: SHARDS_MAX, value: 4 });
  const shardsField = field('Shards', shards, `From 1 to ${count(SHARDS_MAX)}.`);
  const mode = choices('Mode', [['PROVISIONED', 'Provisioned: you choose the number of shards'], ['ON_DEMAND', 'On demand: the load chooses it']], 'PROVISIONED',
    (value) => { shardsField.hidden = value === 'ON_DEMAND'; shards.disabled = value === 'ON_DEMAND'; });
  const isDone = await openDialog({
    title: 'Create a stream',
    fields: [field('Name', name, 'Letters, digits, and . _ -'), mode.element, shardsField],
    preview: () => {
      if (mode.value === 'ON_DEMAND') {
        return [rangesBar(evenRanges(4), 'Four shards of equal size'), h('p', {}, 'It begins with 4 shards. Hot shards are split where half of their load lies, and cold neighbours are merged. You cannot split, merge or scale it yourself.')];
      }
      const wanted = Math.min(SHARDS_MAX, Math.max(1, Number(shards.value) || 1));
      return [rangesBar(evenRanges(wanted), `${wanted} shards of equal size`), h('p', {}, `${counted(wanted, 'shard')}, each with ${percent(1 / wanted)} of the hash keys. ${capacity(wanted)}`), h('p', {}, 'Records are kept for 24 hours, until you change that.')];
    },
    action: 'Create stream',
    run: async () => {
      const input = { StreamName: name.value, StreamModeDetails: { StreamMode: mode.value } };
      if (mode.value === 'PROVISIONED') input.ShardCount = Number(shards.value);
      await kinesis('CreateStream', input);
      return `Stream ${name.value} is being created.`;
    },
  });
  return isDone ? name.value : undefined;
}

export function deleteStream(described) {
  const name = described.StreamName;
  const typed = h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false' });
  const enforce = h('input', { type: 'checkbox' });
  return openDialog({
    title: `Delete ${name}`,
    fields: [field(`Type ${name} to confirm`, typed), h('div', { class: 'check' }, field('Delete its registered consumers, too', enforce))],
    preview: () => h('p', {}, described.RecordCount === undefined
      ? 'The stream and all of its records are deleted. This cannot be undone.'
      : `The stream, ${counted(described.RecordCount, 'record')} and ${bytes(described.DiskBytes)} on disk are deleted. This cannot be undone.`),
    action: 'Delete stream',
    isDangerous: true,
    isReady: () => typed.value === name,
    run: async () => {
      await kinesis('DeleteStream', { StreamName: name, EnforceConsumerDeletion: enforce.checked });
      return `Stream ${name} is being deleted.`;
    },
  });
}

export function scaleStream(name, shards) {
  const open = openShards(shards);
  const now = open.length;
  const [min, max] = [Math.ceil(now / 2), Math.min(SHARDS_MAX, now * 2)];
  const target = number({ min, max, value: max });
  return openDialog({
    title: `Scale ${name}`,
    fields: [field('Shards', target, `Now ${count(now)}. One step goes from half (${count(min)}) to double (${count(max)}).${dailyLimit()}`)],
    preview: () => {
      const wanted = Math.min(SHARDS_MAX, Math.max(1, Number(target.value) || 1));
      if (wanted < min || wanted > max) return h('p', {}, `One step goes from ${count(min)} to ${count(max)} shards. Scale in several steps.`);
      return [
        beforeAndAfter(open, evenRanges(wanted).map((range) => ({ ...range, kind: 'new' }))),
        h('p', {}, `The stream gets ${counted(wanted, 'shard')} of equal size, by splits and merges. ${capacity(wanted)}`),
        h('p', {}, 'Records of a key stay in order: readers finish the old shards before the new ones. The old shards keep their records until retention passes.'),
      ];
    },
    action: 'Scale',
    isReady: () => Number(target.value) !== now && target.checkValidity(),
    run: async () => {
      await kinesis('UpdateShardCount', { StreamName: name, TargetShardCount: Number(target.value), ScalingType: 'UNIFORM_SCALING' });
      return `Stream ${name} has ${counted(Number(target.value), 'shard')} now.`;
    },
  });
}

const shardOption = (shard) => [shard.id, `${shardName(shard.id)} (${percent(shard.to - shard.from)} of the keys)`];

export function splitShard(name, shards, chosen) {
  const open = openShards(shards);
  const which = select(open.map(shardOption), { value: chosen ?? open[0].id });
  const part = h('input', { type: 'range', min: 1, max: 99, value: 50 });
  const shard = () => shards.get(which.value);
  const at = () => {
    const { start, end } = shard();
    return start + ((end - start + 1n) * BigInt(part.value)) / 100n;
  };
  return openDialog({
    title: 'Split a shard',
    fields: [field('Shard', which), field('Split at', part, 'The part of its keys that goes to the first child, from 1 to 99 %.')],
    preview: () => {
      const { from, to, id } = shard();
      const cut = fraction(at());
      const others = open.filter((other) => other.id !== id);
      const children = [{ from, to: cut, kind: 'new' }, { from: cut, to, kind: 'new' }];
      return [
        beforeAndAfter(open.map((other) => ({ ...other, kind: other.id === id ? 'gone' : 'same' })), [...others, ...children]),
        h('p', {}, `${shardName(id)} is closed and keeps its records. New records of its keys go to two new shards with ${part.value} % and ${100 - part.value} % of its keys. The second one begins at:`),
        h('p', { class: 'mono' }, hexKey(at())),
        h('p', {}, `The stream then has ${counted(open.length + 1, 'open shard')}, of at most ${count(SHARDS_MAX)}. ${capacity(open.length + 1)}`),
      ];
    },
    action: 'Split',
    isReady: () => open.length < SHARDS_MAX,
    run: async () => {
      await kinesis('SplitShard', { StreamName: name, ShardToSplit: which.value, NewStartingHashKey: at().toString() });
      return `${shardName(which.value)} was split.`;
    },
  });
}

export function mergeShards(name, shards, chosen) {
  const open = openShards(shards);
  const pairs = open.slice(1).map((right, index) => [open[index], right]);
  const at = pairs.findIndex(([left]) => left.id === chosen);
  const which = select(pairs.map(([left, right], index) => [index, `${shardName(left.id)} and ${shardName(right.id).toLowerCase()}`]), { value: at >= 0 ? at : pairs.length - 1 });
  const pair = () => pairs[Number(which.value)];
  return openDialog({
    title: 'Merge two shards',
    fields: [field('Neighbours', which, 'Only shards whose hash keys are adjacent can be merged.')],
    preview: () => {
      const [left, right] = pair();
      const isOne = (shard) => shard === left || shard === right;
      return [
        beforeAndAfter(open.map((shard) => ({ ...shard, kind: isOne(shard) ? 'gone' : 'same' })),
          [...open.filter((shard) => !isOne(shard)), { from: left.from, to: right.to, kind: 'new' }]),
        h('p', {}, `Both are closed and keep their records. New records of their keys go to one new shard with ${percent(right.to - left.from)} of all keys.`),
        h('p', {}, `The stream then has ${counted(open.length - 1, 'open shard')}. ${capacity(open.length - 1)}`),
      ];
    },
    action: 'Merge',
    run: async () => {
      const [left, right] = pair();
      await kinesis('MergeShards', { StreamName: name, ShardToMerge: left.id, AdjacentShardToMerge: right.id });
      return `${shardName(left.id)} and ${shardName(right.id).toLowerCase()} were merged.`;
    },
  });
}

export function changeRetention(described) {
  const name = described.StreamName;
  const now = described.RetentionPeriodHours;
  const wanted = number({ min: HOURS_MIN, max: HOURS_MAX, value: now });
  return openDialog({
    title: `Retention of ${name}`,
    fields: [field('Hours', wanted, `From ${HOURS_MIN} to ${count(HOURS_MAX)} (a year). Now ${hours(now)}.`)],
    preview: () => {
      const next = Number(wanted.value);
      if (next === now || !next) return h('p', {}, 'Nothing changes.');
      if (next > now) return h('p', {}, `Records are kept for ${hours(next)} from when they arrived. What was dropped already does not come back.`);
      return h('p', {}, `Records older than ${hours(next)} are dropped at the next pass and cannot be read any more, also by readers that have not reached them.`);
    },
    action: 'Change retention',
    isReady: () => Number(wanted.value) !== now && wanted.checkValidity(),
    run: async () => {
      const next = Number(wanted.value);
      const operation = next > now ? 'IncreaseStreamRetentionPeriod' : 'DecreaseStreamRetentionPeriod';
      await kinesis(operation, { StreamName: name, RetentionPeriodHours: next });
      return `Stream ${name} keeps records for ${hours(next)}.`;
    },
  });
}

export async function changeMode(described) {
  const name = described.StreamName;
  const isOnDemand = described.StreamMode === 'ON_DEMAND';
  const next = isOnDemand ? 'PROVISIONED' : 'ON_DEMAND';
  const { StreamDescriptionSummary: summary } = await kinesis('DescribeStreamSummary', { StreamName: name });
  return openDialog({
    title: isOnDemand ? `Provision the shards of ${name}` : `Let the load scale ${name}`,
    fields: [],
    preview: () => [
      h('p', {}, isOnDemand
        ? `The stream keeps the ${counted(summary.OpenShardCount, 'shard')} that it has now. From then on you split, merge and scale it yourself.`
        : 'Hot shards are split where half of their load lies, and cold neighbours are merged, between 4 and 1,024 shards. You cannot split, merge or scale it yourself any more.'),
      h('p', {}, `Records and readers are not affected.${server.limits.writeBytes ? ' At most twice in 24 hours.' : ''}`),
    ],
    action: isOnDemand ? 'Switch to provisioned' : 'Switch to on demand',
    run: async () => {
      await kinesis('UpdateStreamMode', { StreamARN: summary.StreamARN, StreamModeDetails: { StreamMode: next } });
      return `Stream ${name} is ${isOnDemand ? 'provisioned' : 'on demand'} now.`;
    },
  });
}
