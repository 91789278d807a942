// The tables that statements may name, with their columns. The columns are requested when a table is opened.

import { words } from './api.js';
import { h } from './dom.js';
import { counted } from './format.js';
import { quoted } from './statements.js';

const SHOWN = 100;

/** Makes the list. `insert` puts a name into the statement, `describe` requests columns, and `onShown` gets the names when they are known. */
export function tableList({ insert, describe, onShown }) {
  let names;
  const search = h('input', { type: 'search', placeholder: 'Find a table', 'aria-label': 'Find a table', hidden: true, oninput: () => list() });
  const items = h('ul', { class: 'plain-list tables' });
  const rest = h('p', { class: 'hint' }, 'The streams that you may read are being listed.');
  const element = h('section', { class: 'card' }, h('h2', {}, 'Tables'), h('p', { class: 'hint' }, 'Each stream is one. A name goes into the statement when it is clicked.'), search, items, rest);

  function name(text) {
    return h('button', { type: 'button', class: 'link mono', title: `Write ${text} into the statement`, onclick: () => insert(quoted(text)) }, text);
  }

  function item(table) {
    const columns = h('ul', { class: 'plain-list columns', hidden: true });
    let isAsked = false;
    const toggle = h('button', {
      type: 'button', class: 'expand', 'aria-expanded': 'false', 'aria-label': `Columns of ${table}`, onclick: () => {
        columns.hidden = !columns.hidden;
        toggle.setAttribute('aria-expanded', String(!columns.hidden));
        if (!isAsked) ask();
      },
    });

    async function ask() {
      isAsked = true;
      columns.replaceChildren(h('li', { class: 'hint' }, 'Looking at its first records.'));
      try {
        const { Rows } = await describe(quoted(table));
        columns.replaceChildren(...Rows.map(([column, type]) => h('li', {}, name(column), ' ', h('span', { class: 'muted' }, type))));
      } catch (error) {
        isAsked = false;
        columns.replaceChildren(h('li', { class: 'error' }, words(error)));
      }
    }
    return h('li', {}, h('div', { class: 'table-head' }, toggle, name(table)), columns);
  }

  function list() {
    const text = search.value.trim().toLowerCase();
    const found = names.filter((table) => table.toLowerCase().includes(text));
    items.replaceChildren(...found.slice(0, SHOWN).map(item));
    const hidden = found.length - SHOWN;
    rest.textContent = names.length === 0 ? 'There is no stream that you may read.' : hidden > 0 ? `${counted(hidden, 'more table')}. Search to find them.` : '';
  }

  return {
    element,
    show(all) {
      names = all;
      search.hidden = names.length <= 10;
      list();
      onShown(names);
    },
  };
}
