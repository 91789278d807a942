// Calls of the server's API, signed with the key of whoever has signed in.

import { Signer } from './sign.js';

const CONTENT_TYPE = 'application/x-amz-json-1.1';
const encoder = new TextEncoder();

/** What the server says about itself: its region, whether it requires a key, whether it has SQL, and its limits. */
export const server = { region: 'us-east-1', needsKey: true, hasSql: false, limits: {} };

/** Who is signed in. The key is kept only here, in the memory of the page. */
export const session = { signer: undefined, keyId: '', requests: 0 };

/** An error that the server returned, or the lack of an answer. */
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

/** Calls an operation of video streams. The path names the operation. */
export function video(operation, input, options) {
  return call(undefined, input, { ...options, path: `/${operation}`, service: 'kinesisvideo' });
}

let lastQuery = Promise.resolve();

/** Runs a statement after the previous ones have ended: the server runs one at a time on each connection. */
export function query(input, options) {
  const answer = lastQuery.then(() => call('Streamlog_20261129.Query', input, { ...options, reviver: exact }));
  lastQuery = answer.catch(() => {});
  return answer;
}

/** Runs a statement over new records, and passes each line of the answer to `onLine`, until it is aborted or the server ends it. */
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

/** Keeps an integer that a JavaScript number cannot hold exactly as text, if the browser gives the source text. */
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

/** Describes an error in words: first in general, then with the server's message. */
export function words(error) {
  const general = WORDS[error.kind];
  const text = error.message && error.message !== error.kind ? error.message : '';
  if (!general) return text || error.kind || String(error);
  return text ? `${general} ${text}` : general;
}
