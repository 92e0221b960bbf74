//! Reads a socket in large pieces for a reader that asks for small ones: TLS asks for 4 KiB at a time, which makes bulk
//! transfers mostly system calls. Connections that are quiet have no buffer, because there are thousands of them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at a time, while that much comes.
const PIECE: usize = 64 << 10;

/// A stream that is read ahead of its reader; written to as it is.
pub(crate) struct ReadAhead<S> {
    io: S,
    /// Empty while little comes.
    buffer: Box<[u8]>,
    /// What of the buffer has been read and not handed out.
    from: usize,
    to: usize,
    /// The last read gave all that was asked for, so there may be more.
    busy: bool,
}

impl<S> ReadAhead<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, buffer: Box::default(), from: 0, to: 0, busy: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.from == this.to {
            let io = Pin::new(&mut this.io);
            if !this.busy || buf.remaining() >= PIECE {
                let read = io.poll_read(cx, buf);
                this.busy = read.is_ready() && buf.remaining() == 0;
                return read;
            }
            if this.buffer.is_empty() {
                this.buffer = vec![0; PIECE].into_boxed_slice();
            }
            let mut piece = ReadBuf::new(&mut this.buffer);
            let read = io.poll_read(cx, &mut piece);
            let length = piece.filled().len();
            if read.is_pending() {
                (this.busy, this.buffer) = (false, Box::default());
            }
            ready!(read)?;
            (this.from, this.to) = (0, length);
        }
        let amount = buf.remaining().min(this.to - this.from);
        buf.put_slice(&this.buffer[this.from..this.from + amount]);
        this.from += amount;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn whatever_is_asked_for_the_bytes_are_the_same_and_a_quiet_stream_has_no_buffer() {
        let sent: Vec<u8> = (0..1 << 20).map(|i: u32| ((i * 31) >> 3) as u8).collect();
        let (mut writer, reader) = tokio::io::duplex(200_000);
        let mut reader = ReadAhead::new(reader);
        let (mut got, mut buffered, mut sizes) = (Vec::new(), false, [1, 4096, 100_000, 18, 5000].iter().cycle());
        let write = async {
            for (i, piece) in sent.chunks(70_001).enumerate() {
                writer.write_all(piece).await.unwrap();
                if i % 3 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            writer
        };
        let read = async {
            while got.len() < sent.len() {
                let mut piece = vec![0; *sizes.next().unwrap()];
                let length = reader.read(&mut piece).await.unwrap();
                assert!(length > 0, "the stream ended after {} bytes", got.len());
                buffered |= !reader.buffer.is_empty();
                got.extend_from_slice(&piece[..length]);
            }
        };
        let (writer, ()) = tokio::join!(write, read);
        assert!(got == sent && buffered);
        let mut more = [0];
        let waiting = std::future::poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut more);
            Poll::Ready(Pin::new(&mut reader).poll_read(cx, &mut buf).is_pending())
        });
        assert!(waiting.await && reader.buffer.is_empty());
        drop(writer);
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    }
}
