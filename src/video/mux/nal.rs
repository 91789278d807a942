//! NAL units of H.264 and H.265: from their lengths to start codes, and the parameter sets that a decoder needs first.

use super::reorder;
use crate::video::VideoError;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The contents of a decoder configuration record of ISO/IEC 14496-15.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParameterSets {
    /// The NAL units with the parameters, in the order that a decoder requires.
    units: Vec<Vec<u8>>,
    /// How many bytes before each NAL unit of a frame contain its length.
    length_bytes: usize,
    /// By how many frames decoding is ahead of presentation, if the parameters specify it.
    pub(super) reorder_frames: Option<u32>,
}

/// Reads a record from its beginning to its end.
struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn unit(&mut self) -> Option<&'a [u8]> {
        let length = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([length[0], length[1]]))).filter(|unit| !unit.is_empty())
    }
}

impl ParameterSets {
    /// Reads an `AVCDecoderConfigurationRecord`.
    pub(super) fn of_h264(record: &[u8]) -> Result<Self, VideoError> {
        let read = || {
            let mut record = Record(record);
            if record.byte()? != 1 {
                return None;
            }
            record.take(3)?;
            let length_bytes = usize::from(record.byte()? & 3) + 1;
            let mut units: Vec<Vec<u8>> = vec![];
            for mask in [0x1F, 0xFF] {
                for _ in 0..record.byte()? & mask {
                    units.push(record.unit()?.to_vec());
                }
            }
            let sequence = units.iter().find(|unit| unit[0] & 0x1F == 7)?;
            let reorder_frames = reorder::of_h264(sequence);
            Some(Self { units, length_bytes, reorder_frames })
        };
        read().ok_or_else(|| invalid("H.264", "AVCDecoderConfigurationRecord"))
    }

    /// Reads an `HEVCDecoderConfigurationRecord`.
    pub(super) fn of_h265(record: &[u8]) -> Result<Self, VideoError> {
        let read = || {
            let mut record = Record(record);
            // Some writers leave the version 0.
            if record.byte()? > 1 {
                return None;
            }
            record.take(20)?;
            let length_bytes = usize::from(record.byte()? & 3) + 1;
            let mut units: Vec<Vec<u8>> = vec![];
            for _ in 0..record.byte()? {
                record.byte()?;
                let count = record.take(2)?;
                for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
                    units.push(record.unit()?.to_vec());
                }
            }
            let sequence = units.iter().find(|unit| unit[0] >> 1 & 0x3F == 33)?;
            let reorder_frames = reorder::of_h265(sequence);
            Some(Self { units, length_bytes, reorder_frames })
        };
        read().ok_or_else(|| invalid("H.265", "HEVCDecoderConfigurationRecord"))
    }

    /// Appends the parameter sets with start codes.
    pub(super) fn write_sets(&self, out: &mut Vec<u8>) {
        for unit in &self.units {
            out.extend_from_slice(&START_CODE);
            out.extend_from_slice(unit);
        }
    }

    /// Appends the NAL units of a frame with start codes instead of their lengths, except those that `is_left_out` excludes by their first byte.
    pub(super) fn write_frame(
        &self,
        frame: &[u8],
        out: &mut Vec<u8>,
        is_left_out: impl Fn(u8) -> bool,
    ) -> Result<(), VideoError> {
        let mut rest = frame;
        while !rest.is_empty() {
            let cut_off = || VideoError::InvalidMedia("a NAL unit reaches beyond its frame".into());
            let (length, after) = rest.split_at_checked(self.length_bytes).ok_or_else(cut_off)?;
            let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            let (unit, after) = after.split_at_checked(length).ok_or_else(cut_off)?;
            if unit.first().is_some_and(|&first| !is_left_out(first)) {
                out.extend_from_slice(&START_CODE);
                out.extend_from_slice(unit);
            }
            rest = after;
        }
        Ok(())
    }
}

fn invalid(codec: &str, record: &str) -> VideoError {
    VideoError::InvalidCodecPrivateData(format!("that of {codec} is no {record}").into())
}
