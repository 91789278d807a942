// Numbers, sizes and times as people read them.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const COUNT = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** Returns a number of bytes: `1.5 MiB`. */
export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Returns an integer with its thousands separated. */
export function count(number) {
  return COUNT.format(number);
}

/** Returns a number in a few digits: `1.2K`. */
export function short(number) {
  if (number > 0 && number < 10) return number.toFixed(1).replace(/\.0$/, '');
  if (number < 1_000) return String(Math.round(number));
  return SHORT.format(number);
}

export function bytesRate(rate) {
  return rate === undefined ? '–' : `${bytes(rate)}/s`;
}

export function rate(number) {
  return number === undefined ? '–' : `${short(number)}/s`;
}

/** Returns a number with the right form of a word: `1 shard`. */
export function counted(number, word) {
  return `${count(number)} ${word}${number === 1 ? '' : 's'}`;
}

/** Returns a duration in its two largest units at most. */
export function duration(millis) {
  if (millis < 1_000) return `${Math.round(millis)} ms`;
  const seconds = millis / 1_000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  const hours = seconds / 3_600;
  if (hours < 48) return `${Math.floor(hours)} h ${Math.round((seconds % 3_600) / 60)} min`;
  return `${Math.floor(hours / 24)} d ${Math.round(hours % 24)} h`;
}

/** Returns hours, as days if they are whole days. */
export function hours(number) {
  return number % 24 === 0 && number >= 48 ? `${number / 24} days` : counted(number, 'hour');
}

const two = (number) => String(number).padStart(2, '0');

/** Returns a time in the reader's zone: `2026-11-29 14:03:07.120`. */
export function localTime(date) {
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${clock(date)}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

/** Returns a time in UTC, in the same form. */
export function utcTime(date) {
  return `${date.toISOString().replace('T', ' ').replace('Z', '')} UTC`;
}

/** Returns the time of day. */
export function clock(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function minuteClock(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** Returns the name of a shard, without leading zeros: `Shard 12`. */
export function shardName(id) {
  return `Shard ${shardNumber(id)}`;
}

export function shardNumber(id) {
  return id.replace(/^shardId-0*(?=\d)/, '');
}

/** Returns a fraction as a percentage. */
export function percent(part) {
  const value = part * 100;
  if (value === 0) return '0 %';
  return `${value >= 10 ? Math.round(value) : value >= 0.1 ? value.toFixed(1) : '<0.1'} %`;
}

const NAMES = {
  CREATING: 'Creating', ACTIVE: 'Active', UPDATING: 'Updating', DELETING: 'Deleting',
  PROVISIONED: 'Provisioned', ON_DEMAND: 'On demand',
};

/** Returns a state or a mode as a word. */
export function word(name) {
  return NAMES[name] ?? name;
}
