//! A connection whose client does not read what it is sent.
//!
//! Nobody waits for ever: a write that could not go on for [`WRITE_MAX`] fails, and the connection
//! with it. The time is looked at whenever the connection is polled, which the bell sees to.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client must take something of its answers within this time, and until the bell rings.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// A stream whose writes fail when they have not gone on for too long.
#[derive(Debug)]
pub(super) struct Impatient<T> {
    stream: T,
    wait_max: Duration,
    blocked: Option<Instant>,
}

impl<T> Impatient<T> {
    pub fn new(stream: T) -> Self {
        Self { stream, wait_max: WRITE_MAX, blocked: None }
    }

    fn judge(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            self.blocked = None;
            return polled;
        }
        let since = *self.blocked.get_or_insert_with(Instant::now);
        if since.elapsed() < self.wait_max {
            return Poll::Pending;
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Impatient<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Impatient<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.judge(polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.judge(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context).map_ok(|()| 0);
        Poll::Ready(ready!(this.judge(flushed)).map(drop))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_write_that_nobody_reads_fails_when_its_time_is_over_and_not_before() {
        let (server, mut client) = tokio::io::duplex(4);
        let mut server =
            Impatient { wait_max: Duration::from_secs(3600), ..Impatient::new(server) };
        server.write_all(b"1234").await.unwrap();
        let blocked = |server: &mut Impatient<_>| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            Pin::new(server).poll_write(&mut context, b"5")
        };
        assert!(blocked(&mut server).is_pending());
        let mut read = [0; 4];
        client.read_exact(&mut read).await.unwrap();
        // It has gone on: the time is counted anew.
        server.write_all(b"5678").await.unwrap();
        assert!(server.blocked.is_none() && blocked(&mut server).is_pending());
        server.wait_max = Duration::ZERO;
        let Poll::Ready(Err(error)) = blocked(&mut server) else { panic!("still waiting") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
