//! Kernel switches under /proc/sys/net, which shows every thread those of its own namespace.
//!
//! Must not know which switches the fabric needs. A switch that this kernel does not have needs no turning.

use crate::{
    error::{Doing, Error},
    namespace::Namespace,
};
use std::{fs, io};

/// A switch by its path below /proc/sys/net, and the value it is to have.
pub(crate) type Switch = (String, &'static str);

/// Turns the switches that are not yet right; returns which.
pub(crate) fn ensure(namespace: &Namespace, switches: &[Switch]) -> Result<Vec<String>, Error> {
    namespace.enter(|| {
        let mut changed = Vec::new();
        for (path, value) in switches {
            if turn(path, value).doing(|| format!("set the kernel switch net/{path} to {value}"))? {
                changed.push(format!("set net/{path} to {value}"));
            }
        }
        Ok(changed)
    })?
}

fn turn(path: &str, value: &str) -> io::Result<bool> {
    let file = format!("/proc/sys/net/{path}");
    match fs::read_to_string(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
        Ok(now) if now.trim_end() == value => Ok(false),
        Ok(_) => fs::write(&file, value).map(|()| true),
    }
}
