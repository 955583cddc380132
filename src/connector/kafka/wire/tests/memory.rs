//! How much memory a test takes: the tests of this library count what each thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// What this thread has allocated and not freed, in bytes; memory that another thread frees stays counted.
    static TAKEN: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ = TAKEN.try_with(|taken| {
        taken.set(taken.get() + bytes);
        PEAK.with(|peak| peak.set(peak.get().max(taken.get())));
    });
}

// SAFETY: everything is left to the system's allocator. Counting allocates nothing: the counters are constants at first, and need no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// The most memory that `work` takes at once, in bytes, and what it answers.
pub(super) fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = TAKEN.get();
    PEAK.set(before);
    let answer = work();
    (usize::try_from(PEAK.get() - before).unwrap_or(0), answer)
}

/// Without this the tests that count would see nothing.
#[test]
fn memory_is_counted() {
    let (peak, _) = peak_of(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20))));
    assert!((1 << 20..2 << 20).contains(&peak), "{peak}");
}
