//! The buffer of an object that was delivered, kept for the next one.

use super::Shard;

/// The largest buffer that is kept to be used again.
const SPARE_BYTES_MAX: usize = 16 << 20;

impl Shard {
    /// Notes that an object was delivered, whose buffer may be reused.
    pub(in crate::delivery) fn note_delivered(&mut self, object: u64, buffer: Option<Vec<u8>>) {
        if let Some(memory_bytes) = self.objects.note_delivered(object) {
            self.memory_bytes -= memory_bytes;
            self.is_changed = true;
            self.drop_spare();
            // A shard that reads nothing keeps no buffer.
            let is_clear = self.is_clear();
            self.spare = buffer.filter(|buffer| !is_clear && buffer.capacity() <= SPARE_BYTES_MAX);
            self.memory_bytes += self.spare.as_ref().map_or(0, Vec::capacity);
        }
    }

    /// Frees the memory that is kept only for reuse.
    pub(in crate::delivery) fn drop_spare(&mut self) {
        drop(take(&mut self.spare, &mut self.memory_bytes));
    }
}

/// Takes the buffer, which is no longer counted here, or an empty one.
pub(super) fn take(spare: &mut Option<Vec<u8>>, memory_bytes: &mut usize) -> Vec<u8> {
    let buffer = spare.take().unwrap_or_default();
    *memory_bytes -= buffer.capacity();
    buffer
}
