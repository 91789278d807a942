// Signature Version 4, computed in the browser.

const encoder = new TextEncoder();

/** Returns whether the browser can sign: only pages from this machine or over TLS can. */
export function canSign() {
  return globalThis.isSecureContext === true && crypto?.subtle !== undefined;
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function sha256(bytes) {
  return hex(await crypto.subtle.digest('SHA-256', bytes));
}

async function hmac(key, text) {
  const imported = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return crypto.subtle.sign('HMAC', imported, encoder.encode(text));
}

/** Signs requests with a key. The signing key derived from it is valid for a day, and is kept that long. */
export class Signer {
  #key;
  #derived = new Map();

  constructor(key) {
    this.#key = key;
  }

  async #signingKey(day, service) {
    const known = this.#derived.get(service);
    if (known?.day === day) return known.key;
    let key = encoder.encode(`AWS4${this.#key.secret}`);
    for (const part of [day, this.#key.region, service, 'aws4_request']) key = await hmac(key, part);
    const imported = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
    this.#derived.set(service, { day, key: imported });
    return imported;
  }

  /** Returns the headers of a request with a body to a path of a service. Without a target, the path names the operation. */
  async headers(target, contentType, body, host, { path = '/', service = 'kinesis', now = new Date() } = {}) {
    const date = now.toISOString().replace(/[-:]|\.\d+/g, '');
    const day = date.slice(0, 8);
    const signed = { 'content-type': contentType, host, 'x-amz-date': date };
    if (this.#key.token) signed['x-amz-security-token'] = this.#key.token;
    if (target) signed['x-amz-target'] = target;
    const names = Object.keys(signed).sort();
    const list = names.join(';');
    const lines = names.map((name) => `${name}:${signed[name].trim()}\n`).join('');
    const canonical = `POST\n${path}\n\n${lines}\n${list}\n${await sha256(body)}`;
    const scope = `${day}/${this.#key.region}/${service}/aws4_request`;
    const text = `AWS4-HMAC-SHA256\n${date}\n${scope}\n${await sha256(encoder.encode(canonical))}`;
    const signature = hex(await crypto.subtle.sign('HMAC', await this.#signingKey(day, service), encoder.encode(text)));
    // The browser sets the host itself.
    delete signed.host;
    signed.authorization =
      `AWS4-HMAC-SHA256 Credential=${this.#key.id}/${scope}, SignedHeaders=${list}, Signature=${signature}`;
    return signed;
  }
}
