//! Keeps the memory of one commit for the next.

use std::sync::Once;

/// Freed memory that stays with the process, and the size from which a block goes back at once, in bytes.
///
/// A commit needs a few blocks of a mebibyte for a millisecond. glibc would give them back to the system each time,
/// and every page of them would fault in again: 0.39 against 0.52 of a raw file's durable throughput, measured in turns.
/// 4 MiB do as well as 16; twice that leaves room for two stores.
const KEPT_BYTES: i32 = 8 * 1024 * 1024;

/// Tell the allocator, once a process.
pub(super) fn keep_freed() {
    static ONCE: Once = Once::new();
    ONCE.call_once(tell_allocator);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn tell_allocator() {
    const M_TRIM_THRESHOLD: i32 = -1;
    const M_MMAP_THRESHOLD: i32 = -3;
    unsafe extern "C" {
        fn mallopt(parameter: i32, value: i32) -> i32;
    }
    for parameter in [M_TRIM_THRESHOLD, M_MMAP_THRESHOLD] {
        // SAFETY: mallopt takes two numbers and the allocator's own lock. If it refuses, commits are slower.
        let _ = unsafe { mallopt(parameter, KEPT_BYTES) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn tell_allocator() {}
