// Video streams: a list, and a player for live video.

import { video, words } from './api.js';
import { h, setAttribute, setText } from './dom.js';
import { hours } from './format.js';

/** The interval at which the list and the player update, in milliseconds. */
const LOOK = 3000;
/** The requested lifetime of a session, in seconds: the maximum. */
const LIFE = 43200;

/** Calls a function now and then every few seconds. Returns a function that stops this. */
function again(run) {
  let timer;
  let isOver = false;
  const next = async () => {
    await run();
    if (!isOver) timer = setTimeout(next, LOOK);
  };
  next();
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}

function say(notice, text, kind = '') {
  notice.hidden = text === '';
  setAttribute(notice, 'class', `notice ${kind}`.trim());
  setText(notice, text);
}

/** Shows the list of video streams. Returns a function that leaves the page. */
export function videosView(main) {
  document.title = 'Video – streamlog';
  const notice = h('p', { class: 'notice', role: 'status', hidden: true });
  const body = h('tbody');
  const table = h('table', { class: 'streams' },
    h('thead', {}, h('tr', {}, ['Stream', 'Device', 'Media', 'Retention'].map((name) => h('th', { scope: 'col' }, name)))), body);
  const empty = h('div', { class: 'empty', hidden: true }, h('h2', {}, 'No video streams yet'),
    h('p', {}, 'Create one with any client of Amazon Kinesis Video Streams at this address.'));
  main.replaceChildren(h('div', { class: 'page-head' }, h('h1', {}, 'Video')), notice, h('div', { class: 'card table-card' }, table, empty));
  let shown = '';

  async function load() {
    try {
      const streams = [];
      let token;
      do {
        const page = await video('listStreams', token ? { NextToken: token } : {});
        streams.push(...page.StreamInfoList);
        token = page.NextToken;
      } while (token);
      say(notice, '');
      empty.hidden = streams.length > 0;
      table.hidden = streams.length === 0;
      const next = JSON.stringify(streams);
      // If nothing has changed, the rows are kept, so that nothing moves under the keyboard or the pointer.
      if (next === shown) return;
      shown = next;
      body.replaceChildren(...streams.map((stream) => h('tr', { 'data-stream': stream.StreamName },
        h('th', { scope: 'row' }, h('a', { href: `#/video/${encodeURIComponent(stream.StreamName)}` }, stream.StreamName)),
        h('td', { 'data-label': 'Device' }, stream.DeviceName ?? '–'), h('td', { 'data-label': 'Media' }, stream.MediaType ?? '–'),
        h('td', { 'data-label': 'Retention' }, stream.DataRetentionInHours ? hours(stream.DataRetentionInHours) : 'live only'))));
    } catch (error) {
      say(notice, words(error), 'bad');
    }
  }

  return again(load);
}

/** Returns the address of a session that plays live video. */
async function liveSession(name) {
  const answer = await video('getHLSStreamingSessionURL', {
    StreamName: name,
    PlaybackMode: 'LIVE',
    HLSFragmentSelector: { FragmentSelectorType: 'PRODUCER_TIMESTAMP' },
    DiscontinuityMode: 'ON_DISCONTINUITY',
    DisplayFragmentTimestamp: 'ALWAYS',
    Expires: LIFE,
  });
  const { pathname, search } = new URL(answer.HLSStreamingSessionURL);
  return pathname + search;
}

/** Shows a video stream live. Returns a function that leaves the page. */
export function videoView(main, name) {
  document.title = `${name} – streamlog`;
  const notice = h('p', { class: 'notice', role: 'status', hidden: true });
  const picture = h('video', { controls: true, muted: true, playsinline: true, 'aria-label': `${name}, live` });
  // Browsers autoplay only muted video.
  picture.muted = true;
  const delay = h('dd', {}, '–');
  const size = h('dd', {}, '–');
  const tile = (text, value) => h('div', { class: 'tile' }, h('dt', {}, text), value);
  main.replaceChildren(
    h('div', { class: 'page-head' }, h('h1', {}, name), h('div', { class: 'page-tools' }, h('a', { href: '#/video' }, 'All video streams'))),
    notice, h('div', { class: 'card player' }, picture), h('dl', { class: 'tiles' }, tile('Behind the camera', delay), tile('Picture', size)));
  let player;
  let isOver = false;

  function stop() {
    player?.destroy();
    player = undefined;
  }

  async function play() {
    if (player) return;
    try {
      const address = await liveSession(name);
      const { default: Hls } = await import('./hls.light.min.mjs');
      if (isOver) return;
      if (!Hls.isSupported()) {
        say(notice, 'This browser does not play fragmented MP4 by scripts.', 'bad');
        return;
      }
      player = new Hls({ enableWorker: false, liveSyncDurationCount: 2, maxLiveSyncPlaybackRate: 1.25, backBufferLength: 30 });
      player.on(Hls.Events.ERROR, (_, failure) => {
        if (!failure.fatal) return;
        say(notice, `The player has stopped: ${failure.details}.`, 'bad');
        stop();
      });
      player.on(Hls.Events.MANIFEST_PARSED, () => picture.play().catch(() => say(notice, 'Press play.')));
      player.loadSource(address);
      player.attachMedia(picture);
      say(notice, '');
    } catch (error) {
      const isSilent = error.kind === 'ResourceNotFoundException' || error.kind === 'NoDataRetentionException';
      say(notice, isSilent ? `Nothing to play now. ${error.message}` : words(error), isSilent ? '' : 'bad');
    }
  }

  function show() {
    const at = player?.playingDate;
    setText(delay, at ? `${((Date.now() - at.getTime()) / 1000).toFixed(1)} s` : '–');
    setText(size, picture.videoWidth ? `${picture.videoWidth} × ${picture.videoHeight}` : '–');
  }

  const clock = setInterval(show, 500);
  const end = again(play);
  return () => {
    isOver = true;
    end();
    clearInterval(clock);
    stop();
  };
}
