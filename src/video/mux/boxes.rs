//! Writes boxes of ISO/IEC 14496-12: a size, a kind, and their contents.

/// The growing bytes of boxes. Sizes are filled in when a box ends.
#[derive(Debug, Default)]
pub(super) struct Boxes {
    pub(super) bytes: Vec<u8>,
}

impl Boxes {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Appends a box.
    pub(super) fn add(&mut self, kind: &[u8; 4], content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u32(0);
        self.raw(kind);
        content(self);
        // Only media is large, and its box has its size before its content.
        let size = u32::try_from(self.bytes.len() - start).expect("descriptions are smaller than 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    /// Appends a box that has a version and flags.
    pub(super) fn add_full(
        &mut self,
        kind: &[u8; 4],
        version: u8,
        flags: u32,
        content: impl FnOnce(&mut Self),
    ) {
        self.add(kind, |boxes| {
            boxes.u32(u32::from(version) << 24 | flags);
            content(boxes);
        });
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// Appends an identity matrix.
    pub(super) fn identity(&mut self) {
        for value in [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30] {
            self.u32(value);
        }
    }

    /// Appends a transformation that leaves the picture as it is, and its size in pixels.
    pub(super) fn frame_size(&mut self, width: u32, height: u32) {
        self.identity();
        self.u32(width.min(0xFFFF) << 16);
        self.u32(height.min(0xFFFF) << 16);
    }
}
