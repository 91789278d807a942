//! The order by key: one record of a key is in flight at a time, and the others wait in their order.

use std::collections::{BTreeMap, HashMap};

use super::state::Place;

/// The outstanding records of each key, without dead letters.
///
/// Keys are known by their hashes. If two keys have the same hash, their records wait for each other, which keeps the order of both.
#[derive(Debug, Default)]
pub(super) struct KeyOrder {
    keys: HashMap<u64, OfKey>,
}

#[derive(Debug, Default)]
struct OfKey {
    /// In the order of the stream: a shard has a higher number than its parents. The flag says that the record is visible.
    records: BTreeMap<Place, bool>,
    in_flight_count: usize,
    /// The record that can be handed out.
    offered: Option<Place>,
}

impl KeyOrder {
    pub(super) fn enter(&mut self, key: u64, place: Place, is_in_flight: bool, is_visible: bool) {
        let of_key = self.keys.entry(key).or_default();
        of_key.records.insert(place, is_visible);
        of_key.in_flight_count += usize::from(is_in_flight);
    }

    pub(super) fn leave(&mut self, key: u64, place: Place, is_in_flight: bool) {
        if let Some(of_key) = self.keys.get_mut(&key) {
            of_key.records.remove(&place);
            of_key.in_flight_count -= usize::from(is_in_flight);
        }
    }

    /// Decides again which record of a key can be handed out. Returns the one that no longer can, and the one that now can.
    pub(super) fn offer(&mut self, key: u64) -> (Option<Place>, Option<Place>) {
        let Some(of_key) = self.keys.get_mut(&key) else { return (None, None) };
        let first = of_key.records.first_key_value().filter(|(_, is_visible)| **is_visible);
        let offered = first.map(|(&place, _)| place).filter(|_| of_key.in_flight_count == 0);
        let withdrawn = std::mem::replace(&mut of_key.offered, offered);
        if of_key.records.is_empty() {
            self.keys.remove(&key);
        }
        if withdrawn == offered { (None, None) } else { (withdrawn, offered) }
    }
}
