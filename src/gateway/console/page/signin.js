// Signing in with an access key, which stays in the memory of the page.

import { kinesis, server, session, signIn, signOut, words } from './api.js';
import { field, h } from './dom.js';
import { canSign } from './sign.js';

/** Shows the form. Calls `onDone` when the server has accepted the key. */
export function signInView(main, onDone) {
  document.title = 'Sign in – streamlog';
  if (!canSign()) {
    main.replaceChildren(h('section', { class: 'card sign-in' }, h('h1', {}, 'This page cannot sign requests'),
      h('p', {}, 'Browsers sign only on pages that come over HTTPS or from this machine. Start the server with a certificate, or open the console as http://127.0.0.1 or http://localhost, for example through an SSH tunnel.')));
    return;
  }
  const id = h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', required: true });
  const secret = h('input', { type: 'password', autocomplete: 'off', required: true });
  const token = h('input', { type: 'password', autocomplete: 'off' });
  const error = h('p', { class: 'error', role: 'alert' });
  const button = h('button', { type: 'submit', class: 'primary' }, 'Sign in');
  const onsubmit = async (event) => {
    event.preventDefault();
    error.textContent = '';
    button.disabled = true;
    signIn({ id: id.value.trim(), secret: secret.value, token: token.value.trim(), region: server.region });
    try {
      await kinesis('ListStreams', { Limit: 1 });
      onDone();
    } catch (failure) {
      // A key that may not list streams is still a valid key.
      if (failure.kind === 'AccessDeniedException') {
        onDone();
        return;
      }
      signOut();
      error.textContent = words(failure);
    }
    button.disabled = false;
  };
  main.replaceChildren(h('section', { class: 'card sign-in' },
    h('h1', {}, 'Sign in'),
    h('p', { class: 'hint' }, 'The console does what your key may do. The key stays in the memory of this page, is never sent, and is gone when you close or reload it.'),
    h('form', { onsubmit },
      field('Access key', id), field('Secret key', secret), field('Session token', token, 'Only if your key came with one.'),
      error, h('div', { class: 'form-end' }, button))));
  id.focus();
}

/** Signs in to a server that requires no key: any key works. */
export function signInAsAnybody() {
  signIn({ id: 'console', secret: 'console', region: server.region });
  session.isAnybody = true;
}
