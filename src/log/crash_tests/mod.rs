//! Tests that fail calls to the operating system, or stop at one, and check what a crash there leaves.

mod outside;
mod power_loss;

mod removed;
mod room;
mod snapshot;
pub(crate) mod steps;

use crate::{DataKey, KeyError, KeyProvider, WrappedKey};

/// Keys for tests: what wraps them is known to everybody.
#[derive(Debug)]
pub(crate) struct OpenKeys;

impl KeyProvider for OpenKeys {
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<WrappedKey, KeyError> {
        let bytes = key.as_bytes().iter().zip(context.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        Ok(WrappedKey { key_id: "open".to_owned(), bytes: bytes.collect() })
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<DataKey, KeyError> {
        let bytes = wrapped.bytes.iter().zip(context.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        Ok(DataKey::new(bytes.collect::<Vec<_>>().try_into().map_err(|_| "32 bytes")?))
    }
}
