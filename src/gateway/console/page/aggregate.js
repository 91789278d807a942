// Decodes aggregates of the Kinesis Producer Library: magic bytes, a protobuf message, and the MD5 of the message.

import { md5 } from './md5.js';

const MAGIC = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_BYTES = 16;
const text = new TextDecoder();

/** Reads the fields of a message: varints and length-delimited fields. Skips fixed-size ones. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at >= bytes.length) throw new Error('ends in a number');
      const byte = bytes[at];
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(value);
    }
    throw new Error('a number is too long');
  };
  while (at < bytes.length) {
    const tag = varint();
    const [field, kind] = [Math.floor(tag / 8), tag % 8];
    if (kind === 0) yield [field, varint()];
    else if (kind === 1 || kind === 5) at += kind === 1 ? 8 : 4;
    else if (kind === 2) {
      const length = varint();
      if (length > bytes.length - at) throw new Error('a part is longer than the rest');
      yield [field, bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error('a field of an unknown kind');
  }
}

function userRecord(bytes, keys, hashKeys) {
  const record = { data: new Uint8Array(), key: undefined, hashKey: undefined };
  for (const [field, value] of fields(bytes)) {
    if (field === 1) record.key = keys[value];
    else if (field === 2) record.hashKey = hashKeys[value];
    else if (field === 3) record.data = value;
  }
  if (record.key === undefined) throw new Error('a record has no key');
  return record;
}

/** Returns the user records of an aggregate, or `undefined` if the bytes are a plain record. */
export function takeApart(bytes) {
  const isMarked = bytes.length > MAGIC.length + DIGEST_BYTES && MAGIC.every((byte, at) => bytes[at] === byte);
  if (!isMarked) return undefined;
  const message = bytes.subarray(MAGIC.length, bytes.length - DIGEST_BYTES);
  const digest = md5(message);
  if (!digest.every((byte, at) => byte === bytes[bytes.length - DIGEST_BYTES + at])) return undefined;
  try {
    const [keys, hashKeys, records] = [[], [], []];
    for (const [field, value] of fields(message)) {
      if (field === 1) keys.push(text.decode(value));
      else if (field === 2) hashKeys.push(text.decode(value));
      else if (field === 3) records.push(value);
    }
    return records.map((record) => userRecord(record, keys, hashKeys));
  } catch {
    return undefined;
  }
}
