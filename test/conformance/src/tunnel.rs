//! Connections that are taken over: HTTP's head by hand, then raw bytes both ways, and the frames that carry two streams
//! in one (Docker API, "Stream format": type, three zeroes, length as a big-endian u32).

use crate::failure::Failure;
use osier_engine::BoxIo;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long the next bytes may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest head that is read.
const HEAD: usize = 64 << 10;

/// A connection after its HTTP head.
pub(crate) struct Tunnel {
    pub(crate) asked: String,
    pub(crate) status: u16,
    /// The answer's head, in lower case.
    pub(crate) head: String,
    io: BoxIo,
    buffer: Vec<u8>,
}

impl Tunnel {
    /// Sends a head (and a body) and reads the answer's head.
    pub(crate) async fn open(mut io: BoxIo, asked: String, request: Vec<u8>) -> Result<Self, Failure> {
        let broken = |e| Failure::broken(format_args!("send {asked}"), e);
        io.write_all(&request).await.map_err(broken)?;
        io.flush().await.map_err(broken)?;
        let mut tunnel = Self { asked, status: 0, head: String::new(), io, buffer: Vec::new() };
        let end = loop {
            if let Some(at) = tunnel.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if tunnel.buffer.len() > HEAD || !tunnel.more("the answer's head").await? {
                return Err(Failure::broken(format_args!("read the answer to {}", tunnel.asked), "it has no head"));
            }
        };
        tunnel.head = String::from_utf8_lossy(&tunnel.buffer[..end]).to_lowercase();
        tunnel.buffer.drain(..end + 4);
        let status = tunnel.head.split(' ').nth(1).and_then(|s| s.parse().ok());
        tunnel.status =
            status.ok_or_else(|| Failure::broken(format_args!("read the answer to {}", tunnel.asked), "no status"))?;
        Ok(tunnel)
    }

    /// Fails unless the status is this one.
    pub(crate) async fn is(mut self, status: u16) -> Result<Self, Failure> {
        if self.status == status {
            return Ok(self);
        }
        // An error has a length and the connection stays open, so only what is there already is shown.
        let _ = tokio::time::timeout(Duration::from_millis(200), self.more("an error")).await;
        let got = format!("{} {}", self.status, String::from_utf8_lossy(&self.buffer));
        Err(Failure::Unexpected { what: self.asked, wanted: status.to_string(), got })
    }

    /// Sends bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        sent.await.map_err(|e| Failure::broken(format_args!("write into {}", self.asked), e))
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub(crate) async fn close_write(&mut self) -> Result<(), Failure> {
        let closed = self.io.shutdown().await;
        closed.map_err(|e| Failure::broken(format_args!("close one half of {}", self.asked), e))
    }

    /// Reads until `wanted` finds something in what has come so far.
    pub(crate) async fn until<T>(&mut self, what: &str, wanted: impl Fn(&[u8]) -> Option<T>) -> Result<T, Failure> {
        loop {
            if let Some(found) = wanted(&self.buffer) {
                return Ok(found);
            }
            if !self.more(what).await? {
                let got = format!("the end after {:?}", String::from_utf8_lossy(&self.buffer));
                return Err(Failure::Unexpected { what: self.asked.clone(), wanted: what.to_owned(), got });
            }
        }
    }

    /// Reads to the end.
    pub(crate) async fn rest(mut self) -> Result<Vec<u8>, Failure> {
        while self.more("the end").await? {}
        Ok(self.buffer)
    }

    /// Reads to the end and takes the frames apart into standard output and standard error.
    pub(crate) async fn frames(self) -> Result<(String, String), Failure> {
        let asked = self.asked.clone();
        split_frames(&asked, &self.rest().await?)
    }

    /// Reads once more; `false` at the end.
    async fn more(&mut self, what: &str) -> Result<bool, Failure> {
        let read = tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.buffer)).await;
        let read = read.map_err(|_| Failure::Late {
            what: format!("{what} from {}, so far {:?}", self.asked, String::from_utf8_lossy(&self.buffer)),
            seconds: PATIENCE.as_secs(),
        })?;
        Ok(read.map_err(|e| Failure::broken(format_args!("read from {}", self.asked), e))? > 0)
    }
}

/// Takes frames apart into standard output and standard error.
pub(crate) fn split_frames(what: &str, mut bytes: &[u8]) -> Result<(String, String), Failure> {
    let bad = |why: &'static str| Failure::broken(format_args!("read the frames of {what}"), why);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let [kind, 0, 0, 0, length @ ..] = *head else { return Err(bad("a head without its zeroes")) };
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| bad("too long"))?;
        let (payload, rest) = rest.split_at_checked(length).ok_or_else(|| bad("a frame that is cut off"))?;
        match kind {
            1 => out.extend_from_slice(payload),
            2 => err.extend_from_slice(payload),
            _ => return Err(bad("a stream that is neither output nor error")),
        }
        bytes = rest;
    }
    if !bytes.is_empty() {
        return Err(bad("a head that is cut off"));
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((text(out), text(err)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart_and_broken_ones_refused() {
        let good = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01!\x01\0\0\0\0\0\0\x01?";
        assert_eq!(split_frames("x", good).unwrap(), ("hi?".to_owned(), "!".to_owned()));
        assert_eq!(split_frames("x", b"").unwrap(), (String::new(), String::new()));
        for bad in [&b"plain text"[..], b"\x01\0\0\0\0\0\0\x05hi", b"\x01\0\0", b"\x07\0\0\0\0\0\0\x01a"] {
            assert!(split_frames("x", bad).is_err(), "{bad:?}");
        }
    }
}
