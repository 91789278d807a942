//! How far decoding may be ahead of presentation, from the sequence parameter sets of H.264 and H.265.

use super::bits::Bits;

/// The most that either standard allows.
const REORDER_FRAMES_MAX: u32 = 16;

/// Returns the payload of a NAL unit without its emulation prevention bytes.
fn payload(unit: &[u8], header_bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit.iter().skip(header_bytes) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload.push(byte);
    }
    payload
}

/// Reads `max_num_reorder_frames`, if the set has it.
pub(super) fn of_h264(sequence: &[u8]) -> Option<u32> {
    let payload = payload(sequence, 1);
    let mut bits = Bits::new(&payload);
    let profile = bits.bits(8)?;
    bits.skip(16)?;
    bits.golomb()?;
    if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(&profile) {
        let chroma_format = bits.golomb()?;
        if chroma_format == 3 {
            bits.skip(1)?;
        }
        bits.golomb()?;
        bits.golomb()?;
        bits.skip(1)?;
        if bits.bit()? {
            for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                if bits.bit()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.golomb()?;
    match bits.golomb()? {
        0 => drop(bits.golomb()?),
        1 => {
            bits.skip(1)?;
            bits.signed_golomb()?;
            bits.signed_golomb()?;
            for _ in 0..bits.golomb()?.min(255) {
                bits.signed_golomb()?;
            }
        }
        _ => {}
    }
    // Reference frames, whether there may be gaps, width, height.
    bits.golomb()?;
    bits.skip(1)?;
    bits.golomb()?;
    bits.golomb()?;
    if !bits.bit()? {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    if bits.bit()? {
        for _ in 0..4 {
            bits.golomb()?;
        }
    }
    if !bits.bit()? {
        return None;
    }
    skip_usability(&mut bits)?;
    if !bits.bit()? {
        return None;
    }
    bits.skip(1)?;
    for _ in 0..4 {
        bits.golomb()?;
    }
    bits.golomb().filter(|&frames| frames <= REORDER_FRAMES_MAX)
}

fn skip_scaling_list(bits: &mut Bits<'_>, length: usize) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..length {
        if next != 0 {
            next = (last + bits.signed_golomb()?.rem_euclid(256)) % 256;
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Skips the usability information of H.264, up to the flag that says whether restrictions follow.
fn skip_usability(bits: &mut Bits<'_>) -> Option<()> {
    if bits.bit()? && bits.bits(8)? == 255 {
        bits.skip(32)?;
    }
    if bits.bit()? {
        bits.skip(1)?;
    }
    if bits.bit()? {
        bits.skip(4)?;
        if bits.bit()? {
            bits.skip(24)?;
        }
    }
    if bits.bit()? {
        bits.golomb()?;
        bits.golomb()?;
    }
    if bits.bit()? {
        bits.skip(65)?;
    }
    let mut has_buffer_model = false;
    for _ in 0..2 {
        if bits.bit()? {
            has_buffer_model = true;
            let count = bits.golomb()?.min(31) + 1;
            bits.skip(8)?;
            for _ in 0..count {
                bits.golomb()?;
                bits.golomb()?;
                bits.skip(1)?;
            }
            bits.skip(20)?;
        }
    }
    if has_buffer_model {
        bits.skip(1)?;
    }
    bits.skip(1)
}

/// Reads `sps_max_num_reorder_pics` of the highest layer.
pub(super) fn of_h265(sequence: &[u8]) -> Option<u32> {
    let payload = payload(sequence, 2);
    let mut bits = Bits::new(&payload);
    bits.skip(4)?;
    let sub_layers = bits.bits(3)? as usize;
    bits.skip(1)?;
    // Profile and level of all, then of each layer below the highest.
    bits.skip(96)?;
    let mut present = vec![];
    for _ in 0..sub_layers {
        present.push((bits.bit()?, bits.bit()?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers))?;
    }
    for (has_profile, has_level) in present {
        bits.skip(if has_profile { 88 } else { 0 } + if has_level { 8 } else { 0 })?;
    }
    bits.golomb()?;
    if bits.golomb()? == 3 {
        bits.skip(1)?;
    }
    bits.golomb()?;
    bits.golomb()?;
    if bits.bit()? {
        for _ in 0..4 {
            bits.golomb()?;
        }
    }
    for _ in 0..3 {
        bits.golomb()?;
    }
    let mut reorder = None;
    for _ in 0..if bits.bit()? { sub_layers + 1 } else { 1 } {
        bits.golomb()?;
        reorder = Some(bits.golomb()?);
        bits.golomb()?;
    }
    reorder.filter(|&frames| frames <= REORDER_FRAMES_MAX)
}
