//! The configuration of AAC, and the header of each frame in formats without a separate configuration.

use super::bits::Bits;
use crate::video::VideoError;

/// Rates by their index.
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// An ADTS header without a checksum.
const ADTS_BYTES: usize = 7;

/// An `AudioSpecificConfig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AudioConfig {
    /// The kind of AAC: 2 for AAC-LC.
    object_type: u32,
    /// Samples a second, before a decoder doubles them with SBR.
    pub(super) sample_rate: u32,
    channel_configuration: u32,
    /// How many samples a frame has in each channel: 1,024 or 960.
    pub(super) frame_samples: u32,
}

impl AudioConfig {
    pub(crate) fn read(config: &[u8]) -> Result<Self, VideoError> {
        let read = || {
            let mut bits = Bits::new(config);
            let mut object_type = object_type(&mut bits)?;
            let sample_rate = sample_rate(&mut bits)?;
            let channel_configuration = bits.bits(4)?;
            // SBR and PS: the output rate of the decoder, then the underlying kind of AAC.
            if matches!(object_type, 5 | 29) {
                self::sample_rate(&mut bits)?;
                object_type = self::object_type(&mut bits)?;
            }
            let is_short = bits.bit().unwrap_or(false);
            Some(Self {
                object_type,
                sample_rate,
                channel_configuration,
                frame_samples: if is_short { 960 } else { 1_024 },
            })
        };
        let invalid = || VideoError::InvalidCodecPrivateData("that of AAC is no AudioSpecificConfig".into());
        read().filter(|config| (1..=96_000).contains(&config.sample_rate)).ok_or_else(invalid)
    }

    /// Appends a frame with its ADTS header.
    pub(super) fn write_adts(&self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), VideoError> {
        let unsupported =
            |what: &str| VideoError::UnsupportedMedia(format!("MPEG-TS cannot hold AAC {what}").into());
        let Some(rate_index) = SAMPLE_RATES.iter().position(|&rate| rate == self.sample_rate) else {
            return Err(unsupported(&format!("of {} Hz", self.sample_rate)));
        };
        if !(1..=4).contains(&self.object_type) || self.frame_samples != 1_024 {
            return Err(unsupported(&format!("of object type {}", self.object_type)));
        }
        if !(1..=7).contains(&self.channel_configuration) {
            return Err(unsupported("with channels in an order of its own"));
        }
        let length = frame.len() + ADTS_BYTES;
        if length >= 1 << 13 {
            return Err(unsupported("frames of more than 8,184 bytes"));
        }
        let length = length as u32;
        let header = u64::from(0xFFF1_u32) << 40
            | u64::from(self.object_type - 1) << 38
            | (rate_index as u64) << 34
            | u64::from(self.channel_configuration) << 30
            | u64::from(length) << 13
            | 0x7FF << 2;
        out.extend_from_slice(&header.to_be_bytes()[1..]);
        out.extend_from_slice(frame);
        Ok(())
    }
}

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.bits(5)? {
        31 => Some(32 + bits.bits(6)?),
        object_type => Some(object_type),
    }
}

fn sample_rate(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.bits(4)? {
        15 => bits.bits(24),
        index => SAMPLE_RATES.get(index as usize).copied(),
    }
}
