// The frame of the console: who is signed in, which view is shown, and in which theme.

import { loadServer, server, session, signOut } from './api.js';
import { forgetAll } from './activity.js';
import { h } from './dom.js';
import { forgetStatements, queryView } from './query.js';
import { canSign } from './sign.js';
import { signInAsAnybody, signInView } from './signin.js';
import { streamView } from './stream.js';
import { streamsView } from './streams.js';
import { videosView, videoView } from './video.js';

const main = document.getElementById('main');
const bar = document.getElementById('bar');
const places = document.getElementById('places');
let leave = () => {};

const THEMES = { auto: 'Colours: as the system', light: 'Colours: light', dark: 'Colours: dark' };

function showTheme(theme) {
  if (theme === 'auto') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.setAttribute('data-theme', theme);
}

function themeButton() {
  let theme = localStorage.getItem('theme');
  if (!(theme in THEMES)) theme = 'auto';
  showTheme(theme);
  const button = h('button', {
    type: 'button', class: 'quiet', 'aria-label': THEMES[theme], title: THEMES[theme], onclick: () => {
      const names = Object.keys(THEMES);
      theme = names[(names.indexOf(theme) + 1) % names.length];
      localStorage.setItem('theme', theme);
      showTheme(theme);
      button.textContent = { auto: '◐', light: '☀', dark: '☾' }[theme];
      button.setAttribute('aria-label', THEMES[theme]);
      button.title = THEMES[theme];
    },
  }, { auto: '◐', light: '☀', dark: '☾' }[theme]);
  return button;
}

function showBar() {
  const parts = [];
  if (session.signer && server.needsKey) {
    parts.push(h('span', { class: 'who', title: 'The access key' }, session.keyId));
    parts.push(h('button', { type: 'button', class: 'quiet', onclick: leaveSession }, 'Sign out'));
  } else if (session.signer) {
    parts.push(h('span', { class: 'who' }, 'No key needed'));
  }
  parts.push(h('span', { class: 'region', title: 'Region' }, server.region), themeButton());
  bar.replaceChildren(...parts);
}

/** Shows links to the parts of the console, if there are several. */
function showPlaces(current) {
  const links = [['streams', '#/', 'Streams']];
  if (server.hasSql) links.push(['query', '#/query', 'Query']);
  if (server.hasVideo) links.push(['video', '#/video', 'Video']);
  places.hidden = !session.signer || links.length === 1;
  places.replaceChildren(...links.map(([name, href, text]) => h('a', { href, 'aria-current': name === current ? 'page' : undefined }, text)));
}

function leaveSession() {
  signOut();
  session.isBlind = false;
  forgetAll();
  forgetStatements();
  show();
}

function show() {
  leave();
  leave = () => {};
  showBar();
  const [, first, name, tab] = location.hash.split('/');
  const isShown = { query: server.hasSql, video: server.hasVideo };
  const place = isShown[first] ? first : 'streams';
  showPlaces(place);
  if (!session.signer) {
    signInView(main, show);
    return;
  }
  const called = name && decodeURIComponent(name);
  if (place === 'query') leave = queryView(main, called);
  else if (place === 'video') leave = called ? videoView(main, called) : videosView(main);
  else leave = first === 'streams' && name ? streamView(main, called, tab || 'overview') : streamsView(main);
}

async function start() {
  document.getElementById('skip').addEventListener('click', (event) => {
    event.preventDefault();
    main.focus();
  });
  try {
    await loadServer();
  } catch {
    main.replaceChildren(h('p', { class: 'notice bad' }, 'The server does not answer. Reload the page once it runs.'));
    return;
  }
  if (!server.needsKey && canSign()) signInAsAnybody();
  window.addEventListener('hashchange', show);
  show();
}

start();
