// The settings of a stream that are not in its page header: encryption, tags, and its policy.

import { kinesis, server, words } from './api.js';
import { openDialog } from './dialog.js';
import { field, h } from './dom.js';
import { counted } from './format.js';
import { example, inWords } from './policy.js';

const TAGS_MAX = 50;
const DEFAULT_KEY = 'alias/aws/kinesis';

function startEncryption(name) {
  const key = h('input', { type: 'text', required: true, maxlength: 2_048, value: DEFAULT_KEY, autocomplete: 'off', spellcheck: 'false' });
  return openDialog({
    title: `Encrypt ${name}`,
    fields: [field('Name of the key', key, 'Any name. It is kept and shown; the keys themselves are in the key file of the server.')],
    preview: () => [
      h('p', {}, 'Records that are put from now on are encrypted on the disk, with their partition keys. What is there already stays as it is until retention drops it.'),
      h('p', {}, `Clients put and read as before. Without the key file, nobody can read the records any more.${server.limits.writeBytes ? ' At most 25 changes in 24 hours.' : ''}`),
    ],
    action: 'Encrypt',
    isReady: () => key.value.trim() !== '',
    run: async () => {
      await kinesis('StartStreamEncryption', { StreamName: name, EncryptionType: 'KMS', KeyId: key.value.trim() });
      return `Stream ${name} is encrypted now.`;
    },
  });
}

function stopEncryption(name, keyId) {
  return openDialog({
    title: `Stop encrypting ${name}`,
    fields: [],
    preview: () => [
      h('p', {}, 'Records that are put from now on are on the disk in plain.'),
      h('p', {}, 'What is encrypted already stays so. Keep the key file until retention has dropped it.'),
    ],
    action: 'Stop encryption',
    isDangerous: true,
    run: async () => {
      await kinesis('StopStreamEncryption', { StreamName: name, EncryptionType: 'KMS', KeyId: keyId });
      return `Stream ${name} is not encrypted any more.`;
    },
  });
}

/** Compares tags before and after: returns those that are new or have another value, and the keys that were removed. */
function tagChanges(before, after) {
  return {
    added: Object.fromEntries([...after].filter(([key, value]) => before.get(key) !== value)),
    removed: [...before.keys()].filter((key) => !after.has(key)),
  };
}

function editTags(name, before, may) {
  const rows = h('div', { class: 'tag-rows' });
  const changed = () => rows.dispatchEvent(new Event('input', { bubbles: true }));
  const addRow = (key = '', value = '') => {
    const number = rows.children.length + 1;
    const text = (label, current, length) => h('input', { type: 'text', 'aria-label': `${label} of tag ${number}`, placeholder: label, maxlength: length, value: current, autocomplete: 'off', spellcheck: 'false' });
    const row = h('div', { class: 'tag-row' }, text('Key', key, 128), text('Value', value, 256),
      h('button', { type: 'button', class: 'quiet danger-text', 'aria-label': `Remove tag ${number}`, onclick: () => { row.remove(); more.focus(); changed(); } }, 'Remove'));
    rows.append(row);
    return row;
  };
  const more = h('button', { type: 'button', class: 'quiet', onclick: () => { addRow().querySelector('input').focus(); changed(); } }, 'Add a tag');
  for (const [key, value] of before) addRow(key, value);
  if (before.size === 0) addRow();
  const pairs = () => [...rows.children].map((row) => [...row.querySelectorAll('input')].map((input) => input.value.trim())).filter(([key]) => key !== '');
  const wanted = () => tagChanges(before, new Map(pairs()));
  const problem = () => {
    const all = pairs();
    if (new Set(all.map(([key]) => key)).size < all.length) return 'Two tags have the same key.';
    if (all.length > TAGS_MAX) return `A stream has ${TAGS_MAX} tags at most.`;
    const { added, removed } = wanted();
    if (removed.length > 0 && !may('RemoveTagsFromStream')) return 'This key may not remove tags (kinesis:RemoveTagsFromStream).';
    if (Object.keys(added).length > 0 && !may('AddTagsToStream')) return 'This key may not add tags (kinesis:AddTagsToStream).';
    return undefined;
  };
  return openDialog({
    title: `Tags of ${name}`,
    fields: [rows, h('div', {}, more)],
    preview: () => {
      const { added, removed } = wanted();
      const lines = [
        ...Object.entries(added).map(([key, value]) => (before.has(key) ? `${key} changes from “${before.get(key)}” to “${value}”.` : `${key} is added, with “${value}”.`)),
        ...removed.map((key) => `${key} is removed.`),
      ];
      return [
        problem() ? h('p', { class: 'error' }, problem()) : lines.length === 0 ? h('p', {}, 'Nothing changes.') : h('ul', { class: 'plain-list' }, lines.map((line) => h('li', {}, line))),
        h('p', { class: 'hint' }, 'Policies can depend on tags: aws:ResourceTag/KEY.'),
      ];
    },
    action: 'Change tags',
    isReady: () => problem() === undefined && Object.values(wanted()).some((change) => Object.keys(change).length > 0),
    run: async () => {
      const { added, removed } = wanted();
      if (removed.length > 0) await kinesis('RemoveTagsFromStream', { StreamName: name, TagKeys: removed });
      if (Object.keys(added).length > 0) await kinesis('AddTagsToStream', { StreamName: name, Tags: added });
      return `Stream ${name} has other tags now.`;
    },
  });
}

function editPolicy(name, arn, before, may) {
  const text = h('textarea', { rows: 14, spellcheck: 'false', autocomplete: 'off', value: before ?? example(arn) });
  // Starts with the cursor at the top, so that the top is visible.
  text.setSelectionRange(0, 0);
  const isDeletion = () => text.value.trim() === '';
  return openDialog({
    title: `Policy of ${name}`,
    fields: [field('Policy', text, 'JSON, at most 20 KiB. Leave it empty to delete the policy.')],
    preview: () => {
      const operation = isDeletion() ? 'DeleteResourcePolicy' : 'PutResourcePolicy';
      if (!may(operation)) return h('p', { class: 'error' }, `This key may not do that (kinesis:${operation}).`);
      if (isDeletion()) return h('p', {}, before ? 'The policy is deleted. Only the policies of the keys decide then.' : 'The stream has no policy, and gets none.');
      try {
        return [
          h('ul', { class: 'plain-list' }, inWords(text.value).map((each) => h('li', {}, each))),
          h('p', { class: 'hint' }, 'It adds to the policies of the keys: what one of them allows is allowed, unless one of them denies it.'),
        ];
      } catch (error) {
        return h('p', { class: 'error' }, error.message);
      }
    },
    action: before ? 'Change policy' : 'Put policy',
    isReady: () => {
      if (isDeletion()) return before !== undefined && may('DeleteResourcePolicy');
      try {
        return inWords(text.value).length > 0 && may('PutResourcePolicy');
      } catch {
        return false;
      }
    },
    run: async () => {
      if (isDeletion()) {
        await kinesis('DeleteResourcePolicy', { ResourceARN: arn });
        return `Stream ${name} has no policy any more.`;
      }
      await kinesis('PutResourcePolicy', { ResourceARN: arn, Policy: text.value });
      return `Stream ${name} has its policy now.`;
    },
  });
}

async function tagsOf(name) {
  const tags = new Map();
  let page;
  do {
    page = await kinesis('ListTagsForStream', { StreamName: name, ...(page && { ExclusiveStartTagKey: [...tags.keys()].at(-1) }) });
    for (const { Key, Value } of page.Tags) tags.set(Key, Value);
  } while (page.HasMoreTags);
  return tags;
}

async function policyOf(arn) {
  const { Policy } = await kinesis('GetResourcePolicy', { ResourceARN: arn });
  return Policy === '{}' ? undefined : JSON.stringify(JSON.parse(Policy), null, 2);
}

/** Makes a card for a setting: its value, and a button that changes it, or the reason why the button is disabled. */
function card(title, view) {
  const now = h('div', { class: 'setting-now' }, h('p', { class: 'muted' }, 'Loading …'));
  const reason = h('p', { class: 'hint', hidden: true });
  const button = h('button', { type: 'button', class: 'quiet', disabled: true }, 'Change');
  let change;
  button.addEventListener('click', () => change());
  return {
    element: h('section', { class: 'card setting' }, h('div', { class: 'section-head' }, h('h3', {}, title), button), now, reason),
    /** Shows the current value. The button is enabled if at least one of the operations is allowed. */
    show(content, text, operations, onclick) {
      change = onclick;
      now.replaceChildren(...[content].flat());
      button.textContent = text;
      const isAllowed = operations.some(view.may);
      button.disabled = !isAllowed;
      reason.hidden = isAllowed;
      reason.textContent = `This key may not change it (kinesis:${operations[0]}).`;
    },
    fail(error) {
      now.replaceChildren(h('p', { class: 'muted' }, error.kind === 'AccessDeniedException' ? 'This key may not see it.' : words(error)));
    },
  };
}

/** Shows the tab. */
export function settingsTab(content, view) {
  const { name } = view;
  const [encryption, tags, policy] = ['Encryption', 'Tags', 'Policy'].map((title) => card(title, view));
  content.replaceChildren(h('h2', { class: 'unseen' }, 'Settings'), encryption.element, tags.element, policy.element);
  const after = (promise) => promise.then((isDone) => isDone && load());
  let isLoaded = false;

  async function load() {
    isLoaded = true;
    const summary = await kinesis('DescribeStreamSummary', { StreamName: name }).then((answer) => answer.StreamDescriptionSummary).catch(encryption.fail);
    if (summary?.EncryptionType === 'KMS') {
      encryption.show(h('p', {}, 'On, with the key ', h('span', { class: 'mono' }, summary.KeyId), '.'), 'Stop encryption', ['StopStreamEncryption'], () => after(stopEncryption(name, summary.KeyId)));
    } else if (summary) {
      encryption.show(h('p', {}, 'Off. Records are on the disk in plain.'), 'Encrypt', ['StartStreamEncryption'], () => after(startEncryption(name)));
    }
    tagsOf(name).then((all) => tags.show(
      all.size === 0 ? h('p', {}, 'None.') : h('dl', { class: 'facts' }, [...all].map(([key, value]) => h('div', {}, h('dt', {}, key), h('dd', {}, value || '–')))),
      'Change tags', ['AddTagsToStream', 'RemoveTagsFromStream'], () => after(editTags(name, all, view.may)),
    )).catch(tags.fail);
    // Without the summary, the ARN is not known.
    if (!summary) return policy.fail({ kind: 'AccessDeniedException' });
    return policyOf(summary.StreamARN).then((text) => policy.show(
      text ? [h('ul', { class: 'plain-list' }, inWords(text).map((each) => h('li', {}, each))), h('details', {}, h('summary', {}, `As JSON, ${counted(text.length, 'character')}`), h('pre', {}, text))] : h('p', {}, 'None. The policies of the keys decide.'),
      text ? 'Change policy' : 'Put a policy', ['PutResourcePolicy', 'DeleteResourcePolicy'], () => after(editPolicy(name, summary.StreamARN, text, view.may)),
    )).catch(policy.fail);
  }

  return {
    // The first answer shows what the key may do.
    update() {
      if (!isLoaded) load();
    },
  };
}
