//! Whose work a thread does, so that the end of the process can be put down to one definition of a link.
//!
//! What works for a link is handed out as [`Work`]: as long as that lives, the thread has the link's
//! definition as its culprit. So no caller can forget to name it.

use std::cell::{Cell, RefCell};
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::Digest;

/// How many hexadecimal digits name a culprit.
const DIGITS: usize = 16;

/// A version of a definition of a link, in a form that can be written while the process dies: hexadecimal digits and a line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Culprit([u8; DIGITS + 1]);

thread_local! {
    /// Read by a signal handler: a constant at first, and without a destructor.
    static CULPRIT: Cell<Option<Culprit>> = const { Cell::new(None) };
    /// The culprits that were entered on this thread, oldest first. The last one is in `CULPRIT`.
    static ENTERED: RefCell<Entries> = const { RefCell::new(Entries { next: 0, culprits: Vec::new() }) };
}

struct Entries {
    next: u64,
    culprits: Vec<(u64, Option<Culprit>)>,
}

/// As long as it lives, the thread does the work of a culprit. Several may be dropped in any order.
#[must_use]
struct Entered {
    number: u64,
    /// It belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

impl Entered {
    /// `None`: what the thread does is nobody's work.
    fn new(culprit: Option<Culprit>) -> Self {
        let number = ENTERED.with_borrow_mut(|entries| {
            entries.next += 1;
            entries.culprits.push((entries.next, culprit));
            entries.next
        });
        CULPRIT.set(culprit);
        Self { number, _not_send: PhantomData }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // At the end of a thread its variables may be gone already.
        let _gone = ENTERED.try_with(|entries| {
            let culprits = &mut entries.borrow_mut().culprits;
            culprits.retain(|(number, _)| *number != self.number);
            CULPRIT.set(culprits.last().and_then(|(_, culprit)| *culprit));
        });
    }
}

/// Something that works for a definition, in use: as long as this lives, what the thread does is done
/// for that definition.
#[must_use]
pub struct Work<T> {
    it: Arc<T>,
    _entered: Entered,
}

impl<T> Work<T> {
    /// `culprit`: the definition, or `None` for what no definition has brought.
    pub fn with(it: &Arc<T>, culprit: Option<Culprit>) -> Self {
        Self { it: it.clone(), _entered: Entered::new(culprit) }
    }

    /// The same for another thread, which [`spawn`] begins while this lives.
    pub fn to_share(work: &Self) -> Arc<T> {
        work.it.clone()
    }
}

impl<T> Deref for Work<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.it
    }
}

impl Culprit {
    /// A version of the definition of a link.
    pub fn of(link: &str, version: u64) -> Self {
        let digest = Digest::of(format!("{link} {version}").as_bytes()).hex();
        let mut line = [b'\n'; DIGITS + 1];
        line[..DIGITS].iter_mut().zip(digest.bytes()).for_each(|(digit, of_digest)| *digit = of_digest);
        Self(line)
    }

    /// Its line in the record of crashes.
    pub fn line(&self) -> &[u8] {
        &self.0
    }

    /// Whose work this thread does. May be called in a signal handler.
    pub fn now() -> Option<Self> {
        CULPRIT.try_with(Cell::get).ok().flatten()
    }

    /// Do something that is its work, also on the threads that [`spawn`] begins meanwhile.
    pub fn blamed_for<T>(self, work: impl FnOnce() -> T) -> T {
        work_of(Some(self), work)
    }
}

/// The same for the work of a definition, or of none.
pub fn work_of<T>(culprit: Option<Culprit>, work: impl FnOnce() -> T) -> T {
    let _entered = Entered::new(culprit);
    work()
}

/// Begin a thread that does the work of the same link as this one.
///
/// # Errors
/// The system has no thread for it.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    begin(Builder::new(), name, work)
}

/// The same, with a stack of so many bytes.
///
/// # Errors
/// The system has no thread for it.
pub fn spawn_with_stack<T: Send + 'static>(
    name: &str,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    begin(Builder::new().stack_size(stack_bytes), name, work)
}

fn begin<T: Send + 'static>(
    builder: Builder,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let culprit = Culprit::now();
    builder.name(name.to_owned()).spawn(move || {
        let _entered = Entered::new(culprit);
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_work_for_whom_they_were_begun() {
        let (one, other) = (Culprit::of("a", 1), Culprit::of("a", 2));
        let begin =
            || spawn("inner", || spawn("innermost", Culprit::now).expect("a thread").join().expect("an answer"));
        let seen = one.blamed_for(|| (Culprit::now(), other.blamed_for(Culprit::now), begin()));
        assert_eq!((seen.0, seen.1, Culprit::now()), (Some(one), Some(other), None));
        assert_eq!(seen.2.expect("a thread").join().expect("an answer"), Some(one));
    }

    #[test]
    fn a_panic_leaves_no_culprit_behind() {
        let panics = || Culprit::of("a", 1).blamed_for(|| panic!("a fault that a test has put here"));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(Culprit::now(), None);
    }

    #[test]
    fn work_that_ends_in_any_order_leaves_the_culprit_of_what_goes_on() {
        let (one, other) = (Culprit::of("a", 1), Culprit::of("b", 1));
        let it = Arc::new(7);
        let (first, second) = (Work::with(&it, Some(one)), Work::with(&it, Some(other)));
        assert_eq!((Culprit::now(), *second), (Some(other), 7));
        drop(first);
        assert_eq!(Culprit::now(), Some(other));
        let nobodys = Work::with(&it, None);
        assert_eq!(Culprit::now(), None);
        drop(nobodys);
        assert_eq!(Culprit::now(), Some(other));
        drop(second);
        assert_eq!(Culprit::now(), None);
    }

    /// It stands in the record of crashes.
    #[test]
    fn a_line_has_digits_only() {
        assert_eq!(Culprit::of("orders", 3).line(), b"a88f3eb9a4d935d7\n");
    }
}
