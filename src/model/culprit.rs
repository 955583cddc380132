//! Whose work a thread does, so that the end of the process can be put down to one definition of a link.

use std::cell::Cell;
use std::io;
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
        let before = CULPRIT.replace(Some(self));
        let done = work();
        CULPRIT.set(before);
        done
    }
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
        CULPRIT.set(culprit);
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

    /// It stands in the record of crashes.
    #[test]
    fn a_line_has_digits_only() {
        assert_eq!(Culprit::of("orders", 3).line(), b"a88f3eb9a4d935d7\n");
    }
}
