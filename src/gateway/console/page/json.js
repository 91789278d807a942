// JSON as a collapsible tree. A node is built when it is opened, so a large value costs nothing until then.

import { h } from './dom.js';
import { visible } from './bytes.js';

const CHILDREN = 200;
const OPEN_DEPTH = 2;

/** Parses JSON if it is an object or an array. */
export function parseJson(text) {
  const start = text.trimStart()[0];
  if (start !== '{' && start !== '[') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function leaf(value) {
  const kind = value === null ? 'null' : typeof value;
  return h('span', { class: `json-${kind}` }, visible(JSON.stringify(value)));
}

function has(value, wanted) {
  return wanted !== '' && visible(JSON.stringify(value)).toLowerCase().includes(wanted);
}

function node(name, value, depth, wanted) {
  const label = name === undefined ? [] : [h('span', { class: 'json-name' }, visible(String(name))), ': '];
  const isHit = name !== undefined && wanted !== '' && String(name).toLowerCase().includes(wanted);
  if (value === null || typeof value !== 'object') {
    return h('li', { class: isHit || has(value, wanted) ? 'hit' : undefined }, label, leaf(value));
  }
  const entries = Array.isArray(value) ? value.map((item, at) => [at, item]) : Object.entries(value);
  const size = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  const list = h('ul');
  let shown = 0;
  const fill = () => {
    const part = entries.slice(shown, shown + CHILDREN);
    shown += part.length;
    list.append(...part.map(([key, item]) => node(key, item, depth + 1, wanted)));
    if (shown < entries.length) {
      const more = h('li', {}, h('button', { type: 'button', class: 'quiet', onclick: () => { more.remove(); fill(); } }, `${entries.length - shown} more`));
      list.append(more);
    }
  };
  const details = h('details', { ontoggle: () => details.open && shown === 0 && fill() },
    h('summary', {}, label, h('span', { class: 'muted' }, size)), list);
  if (wanted === '' ? depth < OPEN_DEPTH : has(value, wanted)) {
    fill();
    details.open = true;
  }
  return h('li', { class: isHit ? 'hit' : undefined }, details);
}

/** Makes the tree. With a text to find, the nodes that contain it are open and highlighted. */
export function jsonTree(value, wanted) {
  return h('ul', { class: 'json' }, node(undefined, value, 0, wanted.toLowerCase()));
}
