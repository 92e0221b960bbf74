//! What this program does on the nodes that measurements take it to: put load on a DNS server, and wait until one knows names.
//!
//! Must not know whose server it is: what is compared is asked by the same code.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use std::{
    io::{ErrorKind, IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How many queries are under way at once: few enough for every server's queue, enough that none waits for the next.
const IN_FLIGHT: usize = 64;
/// How long the answer to a query is waited for, before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often a name is asked for that is not there yet.
const BEAT: Duration = Duration::from_millis(2);
/// How long to wait for a name in all.
const LIMIT: Duration = Duration::from_secs(30);
/// The largest reply that is expected.
const REPLY: usize = 512;

/// Does what the words say, if they are this module's.
pub(crate) fn run(words: &[String]) -> Option<Result<()>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["load", server, names, count, code, seconds] => Some(load(server, names, count, code, seconds)),
        ["watch", server, names, count, ready] => Some(watch(server, names, count, ready)),
        _ => None,
    }
}

/// Asks for the addresses of `count` names in turn, and prints how many replies of the code came per second, and how many
/// queries had none.
fn load(server: &str, names: &str, count: &str, code: &str, seconds: &str) -> Result<()> {
    let (code, limit) = (code.parse::<u8>()?, Duration::from_secs(seconds.parse()?));
    let socket = connect(server, PATIENCE)?;
    let queries = queries(names, count.parse()?);
    let mut load = Load { socket, queries, next: 0, rounds: [0; IN_FLIGHT], code };
    let (mut replies, mut lost) = (0_u64, 0_u64);
    let mut free: Vec<usize> = (0..IN_FLIGHT).collect();
    let started = Instant::now();
    while started.elapsed() < limit {
        load.send(&free)?;
        free = load.receive()?;
        if free.is_empty() {
            free = (0..IN_FLIGHT).collect();
            lost += IN_FLIGHT as u64;
        } else {
            replies += free.len() as u64;
        }
    }
    report(&format!("{} {lost}", replies as f64 / started.elapsed().as_secs_f64()));
    Ok(())
}

/// A fixed number of queries under way.
struct Load {
    socket: UdpSocket,
    queries: Vec<Vec<u8>>,
    next: usize,
    /// How often each place was used, so that late replies are told apart.
    rounds: [u8; IN_FLIGHT],
    code: u8,
}

impl Load {
    /// Sends the next queries, one for each place that is free.
    fn send(&mut self, free: &[usize]) -> Result<()> {
        let mut packets: Vec<Vec<u8>> = Vec::with_capacity(free.len());
        for place in free {
            let mut packet = self.queries[self.next].clone();
            self.next = (self.next + 1) % self.queries.len();
            self.rounds[*place] = self.rounds[*place].wrapping_add(1);
            packet[..2].copy_from_slice(&[u8::try_from(*place)?, self.rounds[*place]]);
            packets.push(packet);
        }
        let slices: Vec<[IoSlice; 1]> = packets.iter().map(|p| [IoSlice::new(p)]).collect();
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(slices.len(), None);
        let to = vec![None; slices.len()];
        let sent = sendmmsg(self.socket.as_raw_fd(), &mut headers, &slices, &to, [], MsgFlags::empty())?.count();
        ensure!(sent == slices.len(), "{sent} of {} queries were sent", slices.len());
        Ok(())
    }

    /// The places whose queries were answered since; none where nothing comes for too long.
    fn receive(&self) -> Result<Vec<usize>> {
        let mut buffers = [[0; REPLY]; IN_FLIGHT];
        let received = {
            let mut slices: Vec<[IoSliceMut; 1]> = buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
            let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(slices.len(), None);
            let socket = self.socket.as_raw_fd();
            match recvmmsg(socket, &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
                Ok(messages) => messages.count(),
                Err(nix::errno::Errno::EAGAIN) => return Ok(Vec::new()),
                Err(error) => bail!("receive replies: {error}"),
            }
        };
        let mut free = Vec::with_capacity(received);
        for reply in buffers.iter().take(received) {
            let place = usize::from(reply[0]);
            // A late one, which counted as lost.
            if self.rounds.get(place) != Some(&reply[1]) {
                continue;
            }
            ensure!(reply[3] & 0x0f == self.code, "a reply has the code {}, not {}", reply[3] & 0x0f, self.code);
            ensure!(self.code != 0 || has_answers(reply), "a reply has no answer");
            free.push(place);
        }
        Ok(free)
    }
}

/// Waits for one name after the other, and prints when each had an address, in nanoseconds of the clock that the nodes of a
/// machine have in common. A file says that the first is being waited for.
fn watch(server: &str, names: &str, count: &str, ready: &str) -> Result<()> {
    let socket = connect(server, BEAT)?;
    for (number, query) in queries(names, count.parse()?).iter_mut().enumerate() {
        query[..2].copy_from_slice(&u16::try_from(number)?.to_be_bytes());
        let started = Instant::now();
        loop {
            ensure!(started.elapsed() < LIMIT, "'{names}' number {number} has no address after {} s", LIMIT.as_secs());
            let asked = Instant::now();
            socket.send(query).context("ask for a name")?;
            let mut reply = [0; REPLY];
            match socket.recv(&mut reply) {
                Ok(_) if reply[..2] == query[..2] && has_answers(&reply) => break,
                Ok(_) => std::thread::sleep(BEAT.saturating_sub(asked.elapsed())),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
                Err(e) => return Err(e).context("hear about a name"),
            }
            if number == 0 {
                std::fs::write(ready, "").with_context(|| format!("write '{ready}'"))?;
            }
        }
        report(&SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos().to_string());
    }
    Ok(())
}

fn connect(server: &str, patience: Duration) -> Result<UdpSocket> {
    let server: SocketAddr = server.parse()?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server).with_context(|| format!("reach {server}"))?;
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

/// Queries for the addresses of names, a number in the place of `{}`.
fn queries(names: &str, count: usize) -> Vec<Vec<u8>> {
    let query = |number: usize| {
        // Recursion is wanted; one question (RFC 1035, 4.1.1).
        let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in names.replace("{}", &number.to_string()).split('.') {
            bytes.push(u8::try_from(label.len()).unwrap_or(0));
            bytes.extend(label.bytes());
        }
        // The root; an address, in the Internet.
        bytes.extend([0, 0, 1, 0, 1]);
        bytes
    };
    (0..count).map(query).collect()
}

fn has_answers(reply: &[u8]) -> bool {
    reply[6..8] != [0, 0]
}

#[expect(clippy::print_stdout, reason = "whoever started it on a node reads its output")]
fn report(line: &str) {
    println!("{line}");
}
