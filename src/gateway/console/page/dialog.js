// Dialogs that change something: fields, a preview of what will happen, and an error in words if the change is refused.

import { words } from './api.js';
import { h, toast } from './dom.js';

/**
 * Opens a dialog.
 *
 * `fields` are elements. `preview` returns an element or texts, and is called again after each input. `run` makes the change and
 * returns the text of the message that follows. Returns a promise of whether the change was made.
 */
export function openDialog({ title, fields, preview, action, isDangerous, isReady, run }) {
  return new Promise((resolve) => {
    let isDone = false;
    const shown = h('div', { class: 'preview', 'aria-live': 'polite' });
    const error = h('p', { class: 'error', role: 'alert' });
    const submit = h('button', { type: 'submit', class: isDangerous ? 'danger' : 'primary' }, action);
    const refresh = () => {
      const content = preview?.();
      shown.hidden = !content;
      shown.replaceChildren(...(content ? [h('h3', {}, 'What will happen'), ...[content].flat()] : []));
      submit.disabled = isReady?.() === false;
    };
    const onsubmit = async (event) => {
      event.preventDefault();
      submit.disabled = true;
      error.textContent = '';
      try {
        const message = await run();
        isDone = true;
        if (message) toast(message);
        dialog.close();
      } catch (failure) {
        error.textContent = words(failure);
        submit.disabled = false;
      }
    };
    const heading = h('h2', {}, title);
    heading.id = 'dialog-title';
    const dialog = h('dialog', { 'aria-labelledby': 'dialog-title', onclose: () => { dialog.remove(); resolve(isDone); } },
      h('form', { onsubmit, oninput: refresh, onchange: refresh }, heading, h('div', { class: 'dialog-body' }, fields, shown), error,
        h('div', { class: 'dialog-end' }, h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), submit)));
    document.body.append(dialog);
    refresh();
    dialog.showModal();
  });
}
