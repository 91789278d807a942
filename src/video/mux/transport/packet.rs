//! Packets of MPEG-TS: 188 bytes each, numbered for each identifier.

const PACKET_BYTES: usize = 188;
/// A packet without its header.
const PAYLOAD_BYTES: usize = 184;
/// Timestamps have 33 bits, and wrap to 0.
const TIME_MASK: u64 = (1 << 33) - 1;
/// Packets of an identifier count to 16.
const COUNTER_MODULUS: usize = 16;

/// Writes the packets of one identifier.
#[derive(Debug)]
pub(super) struct Packets {
    pid: u16,
    counter: usize,
}

/// The data before the payload of the first packet of a unit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lead {
    /// The program clock, in units of 1/90,000 s.
    pub(super) clock: Option<u64>,
    /// Whether decoding can begin here.
    pub(super) is_random_access: bool,
    /// Whether the numbers of packets restart.
    pub(super) is_discontinuous: bool,
}

impl Lead {
    /// Returns the bytes after the length of an adaptation field.
    fn field(self) -> Vec<u8> {
        let Self { clock, is_random_access, is_discontinuous } = self;
        if clock.is_none() && !is_random_access && !is_discontinuous {
            return vec![];
        }
        let flags = u8::from(is_discontinuous) << 7 | u8::from(is_random_access) << 6;
        let mut field = vec![flags | u8::from(clock.is_some()) << 4];
        if let Some(clock) = clock {
            // 33 bits, six reserved ones, and a finer part of nine bits.
            let clock = (clock & TIME_MASK) << 15 | 0x3F << 9;
            field.extend_from_slice(&clock.to_be_bytes()[2..]);
        }
        field
    }
}

impl Packets {
    pub(super) fn new(pid: u16) -> Self {
        Self { pid, counter: 0 }
    }

    /// Appends a unit. If it is the `last` one of the segment, it takes more packets than it needs, up to a multiple of 16: any segment can follow
    /// any other without a jump in the numbers.
    pub(super) fn write(&mut self, unit: &[u8], lead: Lead, is_last: bool, out: &mut Vec<u8>) {
        let field = lead.field();
        let lead_bytes = if field.is_empty() { 0 } else { field.len() + 1 };
        let needed = (unit.len() + lead_bytes).div_ceil(PAYLOAD_BYTES).max(1);
        let end = self.counter + needed;
        let count = if is_last { needed + end.next_multiple_of(COUNTER_MODULUS) - end } else { needed };
        let mut rest = unit;
        for index in 0..count {
            let field = if index == 0 { &field[..] } else { &[] };
            let room = PAYLOAD_BYTES - if field.is_empty() { 0 } else { field.len() + 1 };
            // Each packet that follows needs a byte.
            let after = count - index - 1;
            let length = if after == 0 { rest.len() } else { room.min(rest.len().saturating_sub(after)) };
            let (payload, others) = rest.split_at(length.min(room));
            rest = others;
            self.packet(index == 0, field, payload, out);
        }
    }

    fn packet(&mut self, is_start: bool, field: &[u8], payload: &[u8], out: &mut Vec<u8>) {
        let end = out.len() + PACKET_BYTES;
        let stuffing = PAYLOAD_BYTES - payload.len();
        let has_field = stuffing > 0;
        out.push(0x47);
        out.extend_from_slice(&(u16::from(is_start) << 14 | self.pid).to_be_bytes());
        out.push(if has_field { 0x30 } else { 0x10 } | (self.counter % COUNTER_MODULUS) as u8);
        self.counter += 1;
        if has_field {
            // The length of the field is not part of it. One of a single byte has no flags.
            out.push((stuffing - 1) as u8);
            if stuffing > 1 && field.is_empty() {
                out.push(0);
            }
            out.extend_from_slice(field);
            out.resize(end - payload.len(), 0xFF);
        }
        out.extend_from_slice(payload);
    }
}

/// Appends the header of a packetized elementary stream. `decode` is given if it differs from `presentation`, and `payload_bytes` if the length is to
/// be written.
pub(super) fn pes_header(
    stream_id: u8,
    presentation: u64,
    decode: Option<u64>,
    payload_bytes: Option<usize>,
    out: &mut Vec<u8>,
) {
    let times_bytes = if decode.is_some() { 10 } else { 5 };
    let told = payload_bytes.and_then(|bytes| u16::try_from(bytes + 3 + times_bytes).ok());
    out.extend_from_slice(&[0, 0, 1, stream_id]);
    // The length 0 is for pictures: up to the next unit.
    out.extend_from_slice(&told.unwrap_or(0).to_be_bytes());
    let flags = if decode.is_some() { 0xC0 } else { 0x80 };
    out.extend_from_slice(&[0x84, flags, times_bytes as u8]);
    timestamp(if decode.is_some() { 3 } else { 2 }, presentation, out);
    if let Some(decode) = decode {
        timestamp(1, decode, out);
    }
}

/// Appends a time in three parts, each with a marker.
fn timestamp(kind: u8, time: u64, out: &mut Vec<u8>) {
    let part = |shift: u32| ((time >> shift) as u16 & 0x7FFF) << 1 | 1;
    out.push(kind << 4 | (time >> 29) as u8 & 0x0E | 1);
    out.extend_from_slice(&part(15).to_be_bytes());
    out.extend_from_slice(&part(0).to_be_bytes());
}

/// Returns a section of a table with its checksum, as the payload of a packet.
pub(super) fn section(table_id: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len() as u16 + 4;
    let mut section = vec![table_id];
    section.extend_from_slice(&(0xB000 | length).to_be_bytes());
    section.extend_from_slice(content);
    section.extend_from_slice(&checksum(&section).to_be_bytes());
    // Where the section begins.
    section.insert(0, 0);
    // The unused rest of the packet.
    section.resize(PAYLOAD_BYTES.max(section.len()), 0xFF);
    section
}

/// The CRC of MPEG-2: its highest bit first.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |checksum, &byte| {
        (0..8).fold(checksum ^ u32::from(byte) << 24, |checksum, _| {
            checksum << 1 ^ if checksum >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    })
}
