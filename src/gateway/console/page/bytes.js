// Bytes as text and as hexadecimal digits. Both are shown in parts, because a record may be 10 MiB long.

/** Decodes base64. */
export function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

/** Encodes base64. */
export function toBase64(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length; at += 0x8000) parts.push(String.fromCharCode(...bytes.subarray(at, at + 0x8000)));
  return btoa(parts.join(''));
}

/** Returns bytes as text, or `undefined` if they are not UTF-8. */
export function asText(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** Returns bytes as text, with � for what is not UTF-8. */
export function asAnyText(bytes) {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
}

/** Replaces control characters, and those that change the direction of text, with visible symbols that have no effect. */
export function visible(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (character) => {
    const code = character.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return '\u2421';
    return `[U+${code.toString(16).toUpperCase().padStart(4, '0')}]`;
  });
}

const PREVIEW_BYTES = 400;

/** Returns the beginning of a record on one line. */
export function preview(bytes) {
  const start = asAnyText(bytes.subarray(0, PREVIEW_BYTES)).replace(/\ufffd+$/, '');
  const isBinary = (start.match(/[\u0000-\u0008\u000e-\u001f\ufffd]/g) ?? []).length > start.length / 8;
  if (isBinary) return { text: hexLine(bytes.subarray(0, 48)), isBinary };
  return { text: visible(start).replace(/\s+/g, ' ').slice(0, 240), isBinary };
}

const hex = (byte) => byte.toString(16).padStart(2, '0');

function hexLine(bytes) {
  return Array.from(bytes, hex).join(' ');
}

/** Returns bytes as a hex dump: offset, sixteen bytes, and their characters. */
export function hexDump(bytes, from, to) {
  const lines = [];
  for (let at = from; at < Math.min(to, bytes.length); at += 16) {
    const row = bytes.subarray(at, Math.min(at + 16, bytes.length));
    const characters = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('');
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hexLine(row).padEnd(47)}  ${characters}`);
  }
  return lines.join('\n');
}
