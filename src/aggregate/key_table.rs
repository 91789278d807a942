//! A table of keys in an aggregate that is being written: each key once, and its index.

use std::hash::{BuildHasher, RandomState};

use super::protobuf::{varint_len, write_varint};

/// The keys of a table, encoded one after the other, and an index of them by hash.
#[derive(Debug, Clone)]
pub(super) struct KeyTable {
    /// The byte before each key: the number of the table's field, and the wire type for text.
    tag: u8,
    encoded: Vec<u8>,
    /// Where each key ends in `encoded`, and its length.
    keys: Vec<(u32, u32)>,
    /// Indexes of keys, plus 1, at or after the slot that their hash selects; 0 is free. At most half are taken.
    slots: Vec<u32>,
    /// Random, so that nobody can choose keys that all collide.
    hasher: RandomState,
}

/// The place of a key in a table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// It is there, with this index.
    Known(u32),
    /// It would be added. The key's hash.
    New(u64),
}

impl KeyTable {
    pub(super) fn new(field: u8) -> Self {
        const TEXT: u8 = 2;
        Self {
            tag: field << 3 | TEXT,
            encoded: vec![],
            keys: vec![],
            slots: vec![0; 64],
            hasher: RandomState::new(),
        }
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    pub(super) fn first(&self) -> &[u8] {
        if self.keys.is_empty() { &[] } else { self.get(0) }
    }

    fn get(&self, index: u32) -> &[u8] {
        let (end, len) = self.keys[index as usize];
        &self.encoded[(end - len) as usize..end as usize]
    }

    pub(super) fn find(&self, key: &[u8]) -> Place {
        // Records of one key often come one after the other.
        if let Some(last) = self.keys.len().checked_sub(1).filter(|&last| self.get(last as u32) == key) {
            return Place::Known(last as u32);
        }
        let hash = self.hasher.hash_one(key);
        let mut slot = self.slot(hash);
        loop {
            match self.slots[slot].checked_sub(1) {
                None => return Place::New(hash),
                Some(index) if self.get(index) == key => return Place::Known(index),
                Some(_) => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
    }

    fn slot(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    /// Returns the index that a key has or would have.
    pub(super) fn index(&self, place: Place) -> u32 {
        match place {
            Place::Known(index) => index,
            Place::New(_) => self.keys.len() as u32,
        }
    }

    /// Returns how many bytes a key adds to the table.
    pub(super) fn added(place: Place, key: &[u8]) -> usize {
        match place {
            Place::Known(_) => 0,
            Place::New(_) => 1 + varint_len(key.len() as u64) + key.len(),
        }
    }

    /// Adds a key, unless it is there.
    pub(super) fn insert(&mut self, place: Place, key: &[u8]) {
        let Place::New(hash) = place else { return };
        self.encoded.push(self.tag);
        write_varint(&mut self.encoded, key.len() as u64);
        self.encoded.extend_from_slice(key);
        self.keys.push((self.encoded.len() as u32, key.len() as u32));
        self.take_slot(hash, self.keys.len() as u32);
        if self.keys.len() * 2 > self.slots.len() {
            self.slots = vec![0; self.slots.len() * 2];
            for index in 0..self.keys.len() as u32 {
                self.take_slot(self.hasher.hash_one(self.get(index)), index + 1);
            }
        }
    }

    fn take_slot(&mut self, hash: u64, entry: u32) {
        let mut slot = self.slot(hash);
        while self.slots[slot] != 0 {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = entry;
    }

    pub(super) fn clear(&mut self) {
        self.encoded.clear();
        if !self.keys.is_empty() {
            self.keys.clear();
            self.slots.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_stored_once_also_while_the_table_grows() {
        let mut table = KeyTable::new(1);
        for round in 0..2 {
            let keys: Vec<String> = (0..1_000).map(|number| format!("key-{number}")).collect();
            for (index, key) in keys.iter().chain(&keys).enumerate() {
                let place = table.find(key.as_bytes());
                assert_eq!(matches!(place, Place::New(_)), index < keys.len(), "{key} in round {round}");
                assert_eq!(table.index(place), (index % keys.len()) as u32);
                let added = KeyTable::added(place, key.as_bytes());
                let before = table.encoded().len();
                table.insert(place, key.as_bytes());
                assert_eq!(table.encoded().len() - before, added);
            }
            assert_eq!(table.first(), b"key-0");
            table.clear();
            assert!(table.encoded().is_empty() && table.first().is_empty());
        }
    }
}
