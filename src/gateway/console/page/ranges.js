// A small picture of hash-key ranges, for previews: before and after a change.

import { h, s } from './dom.js';

const WIDTH = 600;

/** Draws ranges, each with `from`, `to` (0 to 1) and optionally a `kind`: `new`, `gone` or `same`. */
export function rangesBar(ranges, label) {
  const gap = ranges.length > 100 ? 0 : 1.5;
  const rects = ranges.map(({ from, to, kind }) => s('rect', {
    class: `range ${kind ?? 'same'}`, x: from * WIDTH + gap / 2, y: 0, height: 22, rx: ranges.length > 60 ? 0 : 3,
    width: Math.max(0.6, (to - from) * WIDTH - gap),
  }));
  return s('svg', { class: 'ranges', viewBox: `0 0 ${WIDTH} 22`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label }, rects);
}

/** Shows the ranges before and after a change, one above the other. */
export function beforeAndAfter(before, after) {
  return h('div', { class: 'before-after' },
    h('span', { class: 'tag' }, 'Now'), rangesBar(before, `Now: ${before.length} ranges of hash keys`),
    h('span', { class: 'tag' }, 'Then'), rangesBar(after, `Then: ${after.length} ranges of hash keys`));
}
