//! Instructions that some processors have, and their substitutes on others.
//!
//! The invariant that the unsafe code relies on, besides those of `map.rs`:
//! - **I5** a processor query showed that the instruction exists, or every processor of this architecture has it, and the instruction
//!   touches no memory.
#![allow(unsafe_code)]

/// The size of a cache line.
const LINE_BYTES: usize = 64;

#[cfg(target_arch = "x86_64")]
mod of_this_kind {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, _rdtsc};
    use std::sync::LazyLock;

    #[inline]
    pub(super) fn ticks() -> u64 {
        // SAFETY: every x86-64 processor has it (I5).
        unsafe { _rdtsc() }
    }

    pub(super) fn ticks_are_steady() -> bool {
        static ARE_STEADY: LazyLock<bool> =
            LazyLock::new(|| tells(0x8000_0007, |[.., edx]| edx & 1 << 8 != 0));
        *ARE_STEADY
    }

    #[inline]
    pub(super) fn takes_lines() -> bool {
        static TAKES: LazyLock<bool> =
            LazyLock::new(|| tells(0x8000_0001, |[_, _, ecx, _]| ecx & 1 << 8 != 0));
        *TAKES
    }

    #[inline]
    pub(super) fn take_line(line: *const u8) {
        // SAFETY: the caller has checked `takes_lines`; the instruction is a hint that is valid for any address (I5).
        unsafe { asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags)) }
    }

    /// Returns whether the CPUID leaf `page` passes the test. It is slow where a hypervisor answers.
    fn tells(page: u32, is_it: impl FnOnce([u32; 4]) -> bool) -> bool {
        // The call is unsafe in Rust 1.89 and may not be later.
        #[allow(unused_unsafe)]
        // SAFETY: every x86-64 processor has it (I5).
        let read = |page| unsafe { __cpuid(page) };
        let found = (read(0x8000_0000).eax >= page).then(|| read(page));
        found.is_some_and(|found| is_it([found.eax, found.ebx, found.ecx, found.edx]))
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod of_this_kind {
    pub(super) fn ticks() -> u64 {
        0
    }

    pub(super) fn ticks_are_steady() -> bool {
        false
    }

    pub(super) fn takes_lines() -> bool {
        false
    }

    pub(super) fn take_line(_line: *const u8) {}
}

/// Returns the processor's tick count, or 0 where it has none.
#[inline]
pub(super) fn ticks() -> u64 {
    of_this_kind::ticks()
}

/// Returns whether the ticks come at a constant rate, also while the processor sleeps.
pub(super) fn ticks_are_steady() -> bool {
    of_this_kind::ticks_are_steady()
}

/// Prefetches the cache lines of `len` bytes from `start` on, which are about to be written. They need not be mapped.
#[inline]
pub(super) fn expect_stores(start: *const u8, len: usize) {
    if of_this_kind::takes_lines() {
        let from = start.wrapping_sub(start.addr() % LINE_BYTES);
        (0..len).step_by(LINE_BYTES).for_each(|at| of_this_kind::take_line(from.wrapping_add(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_be_asked_for_wherever_they_are() {
        let bytes = [7u8; 100];
        expect_stores(bytes.as_ptr(), bytes.len());
        expect_stores(std::ptr::null(), 4096);
        expect_stores(std::ptr::without_provenance(usize::MAX - 10), 4096);
        assert_eq!(bytes, [7; 100]);
    }
}
