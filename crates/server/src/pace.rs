//! How slow a client may be: whoever sends or takes bytes slower than this holds a connection that
//! others could have.
//!
//! Law: a transfer of `n` bytes may wait `silence + n` milliseconds in all, and never longer than
//! `silence` at once. So a body that drips in byte by byte ends, and so does an answer nobody reads.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep};

/// What is left of a client's time.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    silence: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// At the beginning of a transfer.
    pub fn new(silence_ms: u64) -> Self {
        let silence = Duration::from_millis(silence_ms);
        Self { silence, waited: Duration::ZERO, bytes: 0 }
    }

    /// So many bytes more went over, after so long.
    pub fn moved(&mut self, bytes: u64, waited: Duration) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
    }

    /// How long the next bytes may take.
    pub fn patience(&self) -> Duration {
        let all = self.silence.saturating_add(Duration::from_millis(self.bytes));
        all.saturating_sub(self.waited).min(self.silence)
    }
}

/// A connection that ends when its other end takes nothing of what is written.
pub struct Paced<I> {
    io: I,
    pace: Pace,
    /// Since when the other end has taken nothing, and when that ends.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<I> Paced<I> {
    /// A fresh connection.
    pub fn new(io: I, silence_ms: u64) -> Self {
        Self { io, pace: Pace::new(silence_ms), waiting: None }
    }

    /// Passes on what came of a write, and ends one that has waited for too long.
    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match wrote {
            Poll::Ready(done) => {
                let waited = self.waiting.take().map(|(since, _)| since.elapsed());
                let moved = done.as_ref().map_or(0, bytes) as u64;
                self.pace.moved(moved, waited.unwrap_or_default());
                Poll::Ready(done)
            }
            Poll::Pending => {
                let patience = self.pace.patience();
                let (_, end) =
                    self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
                ready!(end.as_mut().poll(context));
                let error = io::Error::new(io::ErrorKind::TimedOut, "nobody takes the answer");
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<I: Read + Unpin> Read for Paced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<I: Write + Unpin> Write for Paced<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watched(context, wrote, |count| *count)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.watched(context, flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(context);
        self.watched(context, shut, |()| 0)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        self.watched(context, wrote, |count| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_that_drips_ends_and_one_that_flows_never_does() {
        let (silence, second) = (Duration::from_secs(30), Duration::from_secs(1));
        let mut dripping = Pace::new(30_000);
        let mut drops = 0;
        while dripping.patience() >= second {
            dripping.moved(1, second);
            drops += 1;
        }
        assert_eq!(drops, 30);
        let mut slow = Pace::new(30_000);
        for _ in 0..100_000 {
            assert_eq!(slow.patience(), silence);
            slow.moved(1_000, second);
        }
    }

    #[test]
    fn what_went_over_before_buys_no_long_silence() {
        let mut pace = Pace::new(30_000);
        pace.moved(1 << 40, Duration::ZERO);
        assert_eq!(pace.patience(), Duration::from_secs(30));
    }
}
