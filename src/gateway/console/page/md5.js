// MD5, which browsers do not provide. It only checks aggregates and is not used for security.

const SHIFTS = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
const SINES = Array.from({ length: 64 }, (_, at) => Math.floor(Math.abs(Math.sin(at + 1)) * 2 ** 32) | 0);

const rotate = (word, by) => (word << by) | (word >>> (32 - by));

/** Returns the MD5 of bytes, 16 bytes long. */
export function md5(bytes) {
  const padded = new Uint8Array((((bytes.length + 8) >> 6) + 1) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, (bytes.length << 3) >>> 0, true);
  view.setUint32(padded.length - 4, Math.floor(bytes.length / 2 ** 29), true);
  let state = [0x67452301, 0xefcdab89 | 0, 0x98badcfe | 0, 0x10325476];
  for (let block = 0; block < padded.length; block += 64) {
    let [a, b, c, d] = state;
    for (let step = 0; step < 64; step += 1) {
      const round = step >> 4;
      let mixed;
      let word;
      if (round === 0) [mixed, word] = [(b & c) | (~b & d), step];
      else if (round === 1) [mixed, word] = [(d & b) | (~d & c), (5 * step + 1) % 16];
      else if (round === 2) [mixed, word] = [b ^ c ^ d, (3 * step + 5) % 16];
      else [mixed, word] = [c ^ (b | ~d), (7 * step) % 16];
      const sum = (a + mixed + SINES[step] + view.getInt32(block + word * 4, true)) | 0;
      [a, d, c, b] = [d, c, b, (b + rotate(sum, SHIFTS[round][step % 4])) | 0];
    }
    state = [state[0] + a, state[1] + b, state[2] + c, state[3] + d].map((word) => word | 0);
  }
  const digest = new DataView(new ArrayBuffer(16));
  state.forEach((word, at) => digest.setInt32(at * 4, word, true));
  return new Uint8Array(digest.buffer);
}
