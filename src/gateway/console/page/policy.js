// Policies of streams, in words.

const list = (value) => [value ?? []].flat();

const joined = (parts, word) => (parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} ${word} ${parts.at(-1)}`);

function principals(statement) {
  const named = statement.NotPrincipal ?? statement.Principal;
  const names = typeof named === 'object' && named !== null ? Object.values(named).flat() : list(named);
  if (statement.NotPrincipal !== undefined) return `Everybody but ${joined(names, 'and')}`;
  return names.includes('*') ? 'Everybody' : joined(names, 'and');
}

function conditions(statement) {
  const all = Object.entries(statement.Condition ?? {}).flatMap(([operator, keys]) => Object.entries(keys ?? {}).map(([key, values]) => `${key} ${operator} ${joined(list(values).map(String), 'or')}`));
  return all.length === 0 ? '' : `, if ${all.join(' and ')}`;
}

function sentence(statement) {
  const verb = { Allow: 'may', Deny: 'may not' }[statement.Effect] ?? `(${statement.Effect})`;
  const what = statement.NotAction === undefined ? joined(list(statement.Action), 'and') : `anything but ${joined(list(statement.NotAction), 'and')}`;
  const where = statement.NotResource === undefined ? joined(list(statement.Resource), 'and') : `anything but ${joined(list(statement.NotResource), 'and')}`;
  const who = principals(statement);
  return `${who} ${verb} do ${what} on ${where}${conditions(statement)}.`;
}

/** Describes a policy, with a sentence for each statement. Throws an error in words if the text is not JSON or not a policy. */
export function inWords(text) {
  let policy;
  try {
    policy = JSON.parse(text);
  } catch (error) {
    throw new Error(`This is not JSON: ${error.message}`);
  }
  const statements = list(policy?.Statement).filter((statement) => typeof statement === 'object' && statement !== null);
  if (statements.length === 0) throw new Error('The policy has no Statement.');
  return statements.map(sentence);
}

/** Returns a policy to start from: one user may read the stream. */
export function example(arn) {
  const account = arn.split(':')[4];
  return JSON.stringify({
    Version: '2012-10-17',
    Statement: [{
      Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${account}:user/NAME` },
      Action: ['kinesis:DescribeStreamSummary', 'kinesis:ListShards', 'kinesis:GetShardIterator', 'kinesis:GetRecords'], Resource: arn,
    }],
  }, null, 2);
}
