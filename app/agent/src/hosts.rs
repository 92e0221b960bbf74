//! A repair of `/etc/hosts` on engines of the 28 line: they write an address that came from a remote IPAM driver as
//! `::ffff:a.b.c.d`, which Java and every other program that prefers IPv6 takes for one.
//!
//! Those engines ask for an endpoint's operational info after they wrote the file and before the container's process
//! starts; that is when it is mended. The file is mounted into the container, so it is rewritten where it is.

use std::{fs, io, net::Ipv4Addr, path::Path};

/// Rewrites the mapped form of this address in the hosts files of the engine whose root directory this is; says how many
/// files it changed.
pub(crate) fn mend(engine_root: &Path, address: Ipv4Addr) -> io::Result<usize> {
    let mut changed = 0;
    for container in fs::read_dir(engine_root.join("containers"))? {
        let path = container?.path().join("hosts");
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if let Some(mended) = unmapped(&text, address) {
            fs::write(&path, mended)?;
            changed += 1;
        }
    }
    Ok(changed)
}

/// The text with this address in its own form, or `None` where that changes nothing.
fn unmapped(text: &str, address: Ipv4Addr) -> Option<String> {
    let mapped = format!("::ffff:{address}");
    let mend = |line: &str| match line.strip_prefix(&mapped) {
        Some(rest) if rest.starts_with([' ', '\t']) => format!("{address}{rest}"),
        _ => line.to_owned(),
    };
    let mended: String = text.split_inclusive('\n').map(mend).collect();
    (mended != text).then_some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 5);

    #[test]
    fn only_the_mapped_form_of_this_address_changes() {
        let text = "127.0.0.1\tlocalhost\n::ffff:10.1.1.5\tb.weave.local b\n::ffff:10.1.1.50\tother\n";
        let mended = "127.0.0.1\tlocalhost\n10.1.1.5\tb.weave.local b\n::ffff:10.1.1.50\tother\n";
        assert_eq!(unmapped(text, ADDRESS).as_deref(), Some(mended));
        assert_eq!(unmapped(mended, ADDRESS), None);
    }

    #[test]
    fn the_file_keeps_its_place() {
        use std::os::unix::fs::MetadataExt;
        let root = tempfile::tempdir().unwrap();
        let container = root.path().join("containers/abc");
        fs::create_dir_all(&container).unwrap();
        let hosts = container.join("hosts");
        fs::write(&hosts, "::ffff:10.1.1.5\tb\n").unwrap();
        let inode = fs::metadata(&hosts).unwrap().ino();
        assert_eq!(mend(root.path(), ADDRESS).unwrap(), 1);
        assert_eq!(mend(root.path(), ADDRESS).unwrap(), 0);
        assert_eq!(fs::metadata(&hosts).unwrap().ino(), inode);
    }
}
