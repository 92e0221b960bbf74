//! Ports for the servers that tests start as programs, which take a port's number and no open socket.
//!
//! Must not know what is served. The kernel gives out the ports from 32768 on to whoever asks for any, so one of those may be
//! another's before the program has bound it, or while it is started again.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

/// What nobody is given who asks for any port, above where most services are.
const RANGE: std::ops::Range<u16> = 14_000..32_768;

/// How many are tried.
const TRIES: u32 = 1000;

/// A TCP port of 127.0.0.1 at which nobody listens, and that nobody is given by chance.
pub fn free() -> u16 {
    free_at(Ipv4Addr::LOCALHOST)
}

/// As [`free`], of another address.
///
/// # Panics
/// Where the machine does not have this address, or all its ports are taken.
pub fn free_at(address: impl Into<IpAddr>) -> u16 {
    let address = address.into();
    let mut tries = 0;
    loop {
        let port = rand::random_range(RANGE);
        match TcpListener::bind((address, port)) {
            Ok(_) => return port,
            Err(error) => assert!(tries < TRIES, "no port of {address} can be had: {error}"),
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_has_is_passed_over() {
        let port = free();
        assert!(RANGE.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        let other = Ipv4Addr::new(127, 0, 0, 2);
        let _held: Vec<TcpListener> =
            RANGE.step_by(64).filter_map(|port| TcpListener::bind((other, port)).ok()).collect();
        let open = free_at(other);
        assert!(TcpListener::bind((other, open)).is_ok());
    }
}
