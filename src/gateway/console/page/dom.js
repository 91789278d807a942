// Builds elements from code. Text always stays text: nothing here parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** Makes an element. Children are elements or texts. */
export function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** Makes an SVG element. */
export function s(tag, attributes, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

/** Sets the text if it differs. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute if it differs. Removes it if there is no value. */
export function setAttribute(element, name, value) {
  if (value === undefined || value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

let ids = 0;

/** Returns a new id, which ties a label to its field. */
export function newId() {
  ids += 1;
  return `id${ids}`;
}

/** Makes a field with its label and, if there is one, a hint. */
export function field(label, control, hint) {
  const id = control.id || newId();
  control.id = id;
  const parts = [h('label', { for: id }, label), control];
  if (hint) {
    const described = typeof hint === 'string' ? h('p', { class: 'hint' }, hint) : hint;
    described.id = newId();
    control.setAttribute('aria-describedby', described.id);
    parts.push(described);
  }
  return h('div', { class: 'field' }, parts);
}

/** Makes a drop-down list. Options are pairs of a value and a text. */
export function select(options, attributes) {
  const element = h('select', attributes, options.map(([value, text]) => h('option', { value }, text)));
  if (attributes?.value !== undefined) element.value = attributes.value;
  return element;
}

/** Makes a group of radio buttons. Returns the element and the chosen value. */
export function choices(legend, options, chosen, onchange) {
  const name = newId();
  let value = chosen;
  const element = h('fieldset', { class: 'choices' }, h('legend', {}, legend), options.map(([option, text]) => {
    const id = newId();
    const input = h('input', {
      type: 'radio', name, id, value: option, checked: option === chosen,
      onchange: () => { value = option; onchange?.(option); },
    });
    return h('span', { class: 'choice' }, input, h('label', { for: id }, text));
  }));
  return { element, get value() { return value; } };
}

/** Shows a message for a few seconds. */
export function toast(text, kind = 'good') {
  const shown = h('div', { class: `toast ${kind}` }, text);
  document.getElementById('toasts').append(shown);
  setTimeout(() => shown.remove(), kind === 'bad' ? 12_000 : 5_000);
}

/** Makes the browser save text or bytes as a file. */
export function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = h('a', { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
