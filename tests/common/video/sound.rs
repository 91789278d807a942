//! Matroska with an audio track, made without any program: enough to be ingested, played and described, if not to be heard.

/// The length of a frame, and the number of frames in a fragment.
const FRAME_MS: u64 = 100;
const FRAMES: u64 = 10;

/// A stream of Matroska that a producer sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sound {
    /// The samples a second, which are among the parameters of the codec.
    pub(crate) sample_rate: u32,
    pub(crate) codec_private: &'static [u8],
    pub(crate) codec: &'static str,
}

impl Default for Sound {
    fn default() -> Self {
        Self { sample_rate: 48_000, codec_private: &[0x11, 0x90], codec: "A_AAC" }
    }
}

impl Sound {
    /// Returns the data before the clusters.
    pub(crate) fn head(&self) -> Vec<u8> {
        let audio = [element(&[0xB5], &(self.sample_rate as f32).to_be_bytes()), element(&[0x9F], &[2])];
        let mut track = vec![
            element(&[0xD7], &[1]),
            element(&[0x73, 0xC5], &[1]),
            element(&[0x83], &[2]),
            element(&[0x86], self.codec.as_bytes()),
            element(&[0x23, 0xE3, 0x83], &(FRAME_MS * 1_000_000).to_be_bytes()),
            element(&[0xE1], &audio.concat()),
        ];
        if !self.codec_private.is_empty() {
            track.push(element(&[0x63, 0xA2], self.codec_private));
        }
        let mut head = element(&[0x1A, 0x45, 0xDF, 0xA3], &element(&[0x42, 0x82], b"matroska"));
        head.extend([0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255]);
        head.extend(element(
            &[0x15, 0x49, 0xA9, 0x66],
            &element(&[0x2A, 0xD7, 0xB1], &1_000_000u32.to_be_bytes()),
        ));
        head.extend(element(&[0x16, 0x54, 0xAE, 0x6B], &element(&[0xAE], &track.concat())));
        head
    }
}

/// Returns a cluster of a second that begins at a timecode in milliseconds.
pub(crate) fn cluster(timecode_ms: u64) -> Vec<u8> {
    let mut payload = element(&[0xE7], &timecode_ms.to_be_bytes());
    for frame in 0..FRAMES {
        let [high, low] = ((frame * FRAME_MS) as u16).to_be_bytes();
        payload.extend(element(&[0xA3], &[&[0x81, high, low, 0x80][..], &[frame as u8; 40]].concat()));
    }
    element(&[0x1F, 0x43, 0xB6, 0x75], &payload)
}

fn element(id: &[u8], payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u64 | 1 << 56).to_be_bytes();
    [id, &size, payload].concat()
}
