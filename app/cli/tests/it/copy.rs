//! `osier copy` over a real `sshd` of this machine: what arrives, what is sent again, and what comes back.

use crate::{fleet::Hosts, program::file};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn a_file_is_sent_where_it_differs_and_replaced_at_once() {
    let hosts = Hosts::new(&["a"]);
    let source = file(&hosts.bench.path(""), "it's a file", vec![7_u8; 300_000]);
    let dest = hosts.bench.path("host/etc/app.conf");
    let text = dest.display().to_string();
    let copy = |more: &[&str]| {
        let said = hosts.osier(&[&["copy", &source, &text], more].concat());
        (said.code, said.out, said.err)
    };
    let (code, out, err) = copy(&["--check"]);
    assert_eq!((code, out), (Some(5), format!("a | would change {text} (new)\n")), "{err}");
    assert!(!dest.parent().unwrap().exists(), "a check makes nothing");
    assert_eq!(copy(&["--mode", "0640"]), (Some(0), format!("a | changed {text} (new)\n"), String::new()));
    assert_eq!((fs::read(&dest).unwrap(), mode(&dest)), (vec![7_u8; 300_000], 0o640));
    let first = inode(&dest);
    assert_eq!(copy(&["--mode", "0640"]), (Some(0), "a | ok\n".into(), String::new()));
    assert_eq!(copy(&["--mode", "0600", "--owner", "daemon:4"]).1, format!("a | changed {text} (attributes)\n"));
    let there = fs::metadata(&dest).unwrap();
    assert_eq!((inode(&dest), mode(&dest), there.uid(), there.gid()), (first, 0o600, 1, 4), "it was not sent again");
    assert_eq!(copy(&["--mode", "0600", "--owner", "1:adm"]).1, "a | ok\n");
    fs::write(&source, "new").unwrap();
    assert_eq!(copy(&[]).1, format!("a | changed {text} (contents)\n"));
    assert!(fs::read(&dest).unwrap() == b"new" && inode(&dest) != first, "it was replaced");
    // What a link leads to stays as it is.
    let other = file(&hosts.bench.path(""), "other", "other");
    fs::remove_file(&dest).unwrap();
    symlink(&other, &dest).unwrap();
    assert_eq!(copy(&[]).1, format!("a | changed {text} (kind)\n"));
    assert_eq!((fs::read_to_string(&other).unwrap().as_str(), dest.is_symlink()), ("other", false));
    assert_eq!(fs::read_dir(dest.parent().unwrap()).unwrap().count(), 1, "no temporary folder is left");
}

#[test]
fn folders_are_copied_with_all_that_is_in_them() {
    let hosts = Hosts::new(&["a", "b"]);
    let source = hosts.bench.path("tree");
    fs::create_dir_all(source.join("deep/empty")).unwrap();
    fs::set_permissions(source.join("deep"), fs::Permissions::from_mode(0o750)).unwrap();
    for (name, mode) in [("run", 0o755), ("deep/a b'$(c)", 0o600), ("deep/-x", 0o644)] {
        fs::write(source.join(name), name).unwrap();
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let (tree, dest) = (source.display().to_string(), hosts.bench.path("dest"));
    let other = file(&hosts.bench.path(""), "other", "x");
    let into = format!("{}/", dest.display());
    let said = hosts.osier(&["-o", "json", "copy", "-l", "a", &tree, &other, &into]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &json["hosts"][0]["changed"]), (Some(0), &7.into()), "{said:?}");
    for (name, wanted) in [("run", 0o755), ("deep/a b'$(c)", 0o600), ("deep/-x", 0o644)] {
        let path = dest.join("tree").join(name);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), (name, wanted));
    }
    assert_eq!(mode(&dest.join("tree/deep")), 0o750);
    assert!(dest.join("tree/deep/empty").is_dir() && dest.join("other").is_file());
    // The other host is the same machine: it has all but what is new.
    fs::write(source.join("deep/more"), "x").unwrap();
    let whole = dest.join("tree").display().to_string();
    let said = hosts.osier(&["copy", "-l", "b", &tree, &whole]);
    assert_eq!(said.out, format!("b | changed {whole}/deep/more (new)\n"), "{said:?}");
    let said = hosts.osier(&["copy", "-l", "b", &other, &whole]);
    assert!(said.code == Some(3) && said.err.contains("a folder is there") && said.err.contains("hint: "), "{said:?}");
    let said = hosts.osier(&["copy", "nowhere", "/x"]);
    assert!(said.code == Some(2) && said.err.contains("read 'nowhere'"), "{said:?}");
}

#[test]
fn files_come_back_into_one_folder_for_each_host() {
    let hosts = Hosts::new(&["a", "b"]);
    let there = hosts.bench.path("there");
    fs::create_dir_all(there.join("sub")).unwrap();
    fs::write(there.join("one"), vec![1_u8; 200_000]).unwrap();
    fs::write(there.join("sub/t w'o"), "2").unwrap();
    fs::hard_link(there.join("one"), there.join("sub/same")).unwrap();
    symlink("/etc/passwd", there.join("sub/link")).unwrap();
    let folder = there.display().to_string();
    let fetch = |more: &[&str]| hosts.osier(&[&["copy", "--fetch", &folder, "back"], more].concat());
    let said = fetch(&["--check"]);
    assert!(said.code == Some(5) && !hosts.bench.path("back").exists(), "{said:?}");
    let said = fetch(&[]);
    assert_eq!((said.code, said.out.lines().count()), (Some(0), 6), "{said:?}");
    for host in ["a", "b"] {
        let back = hosts.bench.path("back").join(host).join(folder.trim_start_matches('/'));
        assert_eq!(fs::read(back.join("one")).unwrap(), vec![1_u8; 200_000]);
        assert_eq!(fs::read(back.join("sub/same")).unwrap(), vec![1_u8; 200_000]);
        assert_eq!(fs::read_to_string(back.join("sub/t w'o")).unwrap(), "2");
        assert!(!back.join("sub/link").is_symlink(), "only files come");
    }
    assert_eq!(fetch(&["--forks", "1"]).out, "a | ok\nb | ok\n");
    fs::write(there.join("sub/t w'o"), "3").unwrap();
    assert_eq!(fetch(&["-l", "b"]).out, format!("b | fetched {folder}/sub/t w'o (contents)\n"));
    let link = hosts.bench.path("way");
    symlink(there.join("one"), &link).unwrap();
    let link = link.display().to_string();
    let said = hosts.osier(&["copy", "--fetch", "-l", "a", &link, "back"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), format!("a | fetched {link} (new)\n").as_str()), "{said:?}");
    let back = hosts.bench.path("back/a").join(link.trim_start_matches('/'));
    assert_eq!(fs::read(back).unwrap(), vec![1_u8; 200_000], "a path that is a link stands for what it leads to");
    let said = hosts.osier(&["copy", "--fetch", "/no/such/file", "back"]);
    assert!(said.code == Some(3) && said.err.contains("there is no '/no/such/file'"), "{said:?}");
}
