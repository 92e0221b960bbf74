//! ansible-core itself, out of PyPI.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What is compared with, and all that it needs.
const PACKAGES: [&str; 9] = [
    "ansible-core==2.19.14",
    "cffi==2.1.1",
    "cryptography==50.0.2",
    "jinja2==3.1.6",
    "markupsafe==3.0.4",
    "packaging==26.4",
    "pycparser==3.12",
    "pyyaml==6.0.4",
    "resolvelib==1.2.1",
];

/// A virtual environment with the packages, made in a build's folder where later runs find it. Two runs at once wait for each
/// other.
pub(crate) fn environment(folder: &Path) -> PathBuf {
    let folder = folder.join("ansible");
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (environment, done) = (folder.join("venv"), folder.join("installed"));
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return environment;
    }
    let _ = fs::remove_dir_all(&environment);
    let must = |command: &mut Command, hint: &str| {
        let output = command.output().unwrap_or_else(|e| panic!("run {command:?}: {e} ({hint})"));
        assert!(output.status.success(), "{command:?} ({hint}): {}", String::from_utf8_lossy(&output.stderr));
    };
    must(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&environment), "Debian: python3-venv");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    must(Command::new(environment.join("bin/python")).args(pip).args(PACKAGES), "PyPI must be reachable");
    fs::write(&done, wanted).unwrap();
    environment
}
