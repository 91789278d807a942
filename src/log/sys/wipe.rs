//! Memory that is wiped when it is no longer used.
//!
//! The invariant that the unsafe code relies on, besides those of `map.rs`:
//! - **I10** a value that is wiped is reached through its box alone, and is dropped once, right before its bytes are overwritten.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;

use zeroize::Zeroize;

/// A value in a place of its own on the heap, which is overwritten when the value is dropped. It is for the key of a cipher, which the
/// library of the cipher would leave in memory.
pub(crate) struct Wiped<T>(Box<ManuallyDrop<T>>);

impl<T> Wiped<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Box::new(ManuallyDrop::new(value)))
    }

    /// Drops the value and overwrites its bytes.
    fn wipe(place: &mut ManuallyDrop<T>) {
        let bytes = (&raw mut *place).cast::<MaybeUninit<u8>>();
        // SAFETY: nobody else can reach the value, and nobody uses it after this (I10). Its place holds this many bytes until the box is
        // dropped, which does not look at them.
        let bytes = unsafe {
            ManuallyDrop::drop(place);
            std::slice::from_raw_parts_mut(bytes, size_of::<T>())
        };
        bytes.zeroize();
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        Self::wipe(&mut self.0);
    }
}

impl<T> fmt::Debug for Wiped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wiped(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_dropped_once_and_its_bytes_are_overwritten() {
        struct Secret<'a>([u8; 32], &'a std::cell::Cell<u32>);
        impl Drop for Secret<'_> {
            fn drop(&mut self) {
                self.1.set(self.1.get() + 1);
            }
        }
        let drops = std::cell::Cell::new(0);
        drop(Wiped::new(Secret([7; 32], &drops)));
        assert_eq!(drops.get(), 1);

        let mut place = ManuallyDrop::new([7u8; 32]);
        Wiped::wipe(&mut place);
        assert_eq!(*place, [0; 32], "arrays of bytes can be looked at after that");
        let _ = Secret([0; 32], &drops).0;
    }
}
