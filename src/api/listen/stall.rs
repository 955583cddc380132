//! A stream that gives up on a client that does not take its answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What a client must take in the time that it has. Whoever takes a byte now and then takes nothing.
const PROGRESS_BYTES: usize = 64 << 10;

/// A stream whose writes must come on.
pub(super) struct Stall<S> {
    stream: S,
    time: Duration,
    /// Runs while something waits to be taken.
    clock: Option<Pin<Box<Sleep>>>,
    /// What was taken since the clock was set.
    taken: usize,
}

impl<S> Stall<S> {
    /// Whatever waits to be written must come on within `time`.
    pub(super) fn new(stream: S, time: Duration) -> Self {
        Self { stream, time, clock: None, taken: 0 }
    }

    fn waits(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let time = self.time;
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(time)));
        ready!(clock.as_mut().poll(context));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer"))
    }

    fn comes_on(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken >= PROGRESS_BYTES {
            self.taken = 0;
            let time = self.time;
            if let Some(clock) = &mut self.clock {
                clock.as_mut().reset(Instant::now() + time);
            }
        }
    }

    fn is_done(&mut self) {
        self.clock = None;
        self.taken = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(written) => {
                self.comes_on(written.as_ref().copied().unwrap_or_default());
                Poll::Ready(written)
            }
            Poll::Pending => self.waits(context).map(Err),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, bytes) {
            Poll::Ready(written) => {
                self.comes_on(written.as_ref().copied().unwrap_or_default());
                Poll::Ready(written)
            }
            Poll::Pending => self.waits(context).map(Err),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(flushed) => {
                self.is_done();
                Poll::Ready(flushed)
            }
            Poll::Pending => self.waits(context).map(Err),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => self.waits(context).map(Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test);
    }

    #[test]
    fn whoever_takes_nothing_or_a_byte_now_and_then_is_given_up() {
        run(async {
            for sips in [false, true] {
                let (near, mut far) = duplex(1024);
                let mut near = Stall::new(near, Duration::from_millis(100));
                let sipping = tokio::spawn(async move {
                    while sips && far.read_u8().await.is_ok() {
                        sleep(Duration::from_millis(10)).await;
                    }
                    // It stays, and takes nothing.
                    std::future::pending::<()>().await;
                });
                let error = near.write_all(&vec![7; 1 << 20]).await.expect_err("given up");
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                sipping.abort();
            }
        });
    }

    #[test]
    fn whoever_comes_on_gets_all_of_it_and_pauses_do_not_count() {
        run(async {
            let (near, mut far) = duplex(1024);
            let mut near = Stall::new(near, Duration::from_secs(60));
            let reader = tokio::spawn(async move {
                let mut all = Vec::new();
                far.read_to_end(&mut all).await.map(|_| all.len())
            });
            for _ in 0..3 {
                near.write_all(&vec![7; 1 << 20]).await.expect("taken");
                near.flush().await.expect("taken");
                assert!(near.clock.is_none(), "nothing waits");
            }
            drop(near);
            assert_eq!(reader.await.expect("a task").expect("bytes"), 3 << 20);
        });
    }
}
