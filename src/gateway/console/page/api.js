// Calls of the server's API, signed with the key of whoever has signed in.

import { Signer } from './sign.js';

const CONTENT_TYPE = 'application/x-amz-json-1.1';
const encoder = new TextEncoder();

/** What the server says of itself: its region, whether it asks for a key, whether it has SQL, its limits. */
export const server = { region: 'us-east-1', needsKey: true, hasSql: false, limits: {} };

/** Who has signed in. The key is kept here, in the memory of the page, and nowhere else. */
export const session = { signer: undefined, keyId: '', requests: 0 };

/** An error that the server answered, or that there is no answer. */
export class ApiError extends Error {
  constructor(kind, message) {
    super(message || kind);
    this.kind = kind;
  }
}

export async function loadServer() {
  const answer = await fetch('/console/server.json');
  Object.assign(server, await answer.json());
}

export function signIn(key) {
  session.signer = new Signer(key);
  session.keyId = key.id;
}

export function signOut() {
  session.signer = undefined;
  session.keyId = '';
}

/** Calls an operation of Kinesis. */
export function kinesis(operation, input, options) {
  return call(`Kinesis_20131202.${operation}`, input, options);
}

/** Asks for the activity of all streams, or of one. */
export function describeActivity(input, options) {
  return call('Streamlog_20261129.DescribeActivity', input, options);
}

/** Calls an operation of video streams, which its path names. */
export function video(operation, input, options) {
  return call(undefined, input, { ...options, path: `/${operation}`, service: 'kinesisvideo' });
}

let lastQuery = Promise.resolve();

/** Runs a statement, once those before it have ended: on a connection, the server runs one at a time. */
export function query(input, options) {
  const answer = lastQuery.then(() => call('Streamlog_20261129.Query', input, { ...options, reviver: exact }));
  lastQuery = answer.catch(() => {});
  return answer;
}

/** Runs a statement over what comes, and hands each line of the answer to a function, until it is aborted or the server ends it. */
export async function watchQuery(input, { signal, onLine }) {
  const answer = await send('Streamlog_20261129.Watch', input, { signal });
  if (!answer.ok) throw errorOf(answer, parse(answer, await answer.text()));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === 'AbortError') throw error;
      throw new ApiError('NoAnswer', 'The server does not answer any more.');
    });
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) onLine(parse(answer, line, exact));
  }
}

async function call(target, input, { reviver, ...options } = {}) {
  const answer = await send(target, input, options);
  const output = parse(answer, await answer.text(), reviver);
  if (!answer.ok) throw errorOf(answer, output);
  return output;
}

function errorOf(answer, output) {
  const kind = output.__type ?? answer.headers.get('x-amzn-errortype') ?? String(answer.status);
  return new ApiError(kind, output.message ?? output.Message);
}

/** A whole number with more digits than a number here can have stays a text, where the browser tells how it was written. */
function exact(name, value, context) {
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? context?.source ?? value : value;
}

function parse(answer, text, reviver) {
  try {
    return text === '' ? {} : JSON.parse(text, reviver);
  } catch {
    throw new ApiError('BadAnswer', `The answer cannot be read (status ${answer.status}).`);
  }
}

async function send(target, input, { signal, path = '/', service = 'kinesis' } = {}) {
  if (!session.signer) throw new ApiError('SignedOut', 'Sign in first.');
  const body = encoder.encode(JSON.stringify(input));
  const type = target ? CONTENT_TYPE : 'application/json';
  const headers = await session.signer.headers(target, type, body, location.host, { path, service });
  session.requests += 1;
  try {
    return await fetch(path, { method: 'POST', headers, body, signal, credentials: 'omit' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('NoAnswer', 'The server does not answer. Is it running?');
  }
}

const WORDS = {
  AccessDeniedException: 'This key may not do that.',
  InvalidSignatureException: 'The signature is wrong.',
  UnrecognizedClientException: 'The server does not know this access key.',
  ResourceInUseException: 'It is in use or being changed.',
  ResourceNotFoundException: 'It is not there.',
  LimitExceededException: 'A limit is reached.',
  ProvisionedThroughputExceededException: 'A shard has reached its limit.',
  ValidationException: 'A value is not allowed.',
  InvalidArgumentException: 'A value is not allowed.',
  ExpiredIteratorException: 'The place in the shard has expired.',
  InternalFailure: 'The server failed. Its log says why.',
};

/** Returns what is wrong in words: in general, then what the server says. */
export function words(error) {
  const general = WORDS[error.kind];
  const text = error.message && error.message !== error.kind ? error.message : '';
  if (!general) return text || error.kind || String(error);
  return text ? `${general} ${text}` : general;
}
