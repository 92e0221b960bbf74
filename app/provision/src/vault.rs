//! The passwords of ansible-vault: from files, from programs that print them, and from the terminal.
//!
//! Must not know what they open. Rules are Ansible's: a password is a file's text or what an executable file prints, without
//! blanks around it; a program whose name ends in `-client` is asked with `--vault-id LABEL`.

use crate::args::{PasswordSource, VaultArgs};
use anyhow::{Context, Result, ensure};
use osier_inventory::{Vault, is_encrypted};
use osier_ui::{ExitKind, Failure, Ui};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

/// All passwords that the arguments name; each is asked for once.
pub(crate) fn passwords(args: &VaultArgs, ui: &Ui) -> Result<Vault, Failure> {
    let usage = |error| Failure::new(ExitKind::Usage, error);
    let mut passwords = Vec::new();
    for id in &args.vault_id {
        passwords.push(match &id.source {
            PasswordSource::Prompt => asked(&id.label, ui)?,
            PasswordSource::File(path) => of_file(path, Some(&id.label)).map_err(usage)?,
        });
    }
    for path in &args.vault_password_file {
        passwords.push(of_file(path, None).map_err(usage)?);
    }
    if args.ask_vault_password {
        passwords.push(asked("", ui)?);
    }
    Ok(Vault::new(passwords))
}

/// The text of a file, opened where all of it is encrypted.
pub(crate) fn opened(path: &Path, text: String, vault: &Vault) -> Result<String, Failure> {
    if !is_encrypted(&text) {
        return Ok(text);
    }
    vault.open(&text).map_err(|e| Failure::usage(format!("read '{}': {e}", path.display())))
}

fn asked(label: &str, ui: &Ui) -> Result<Vec<u8>, Failure> {
    let of = if label.is_empty() { String::new() } else { format!(" ({label})") };
    let password = ui.password(&format!("Vault password{of}: "))?;
    if password.is_empty() {
        return Err(Failure::usage("the vault's password is empty"));
    }
    Ok(password.into_bytes())
}

fn of_file(path: &Path, label: Option<&str>) -> Result<Vec<u8>> {
    let what = || format!("read the vault's password from '{}'", path.display());
    let is_program = fs::metadata(path).with_context(what)?.permissions().mode() & 0o111 != 0;
    let bytes =
        if is_program { printed(path, label).with_context(what)? } else { fs::read(path).with_context(what)? };
    let password = bytes.trim_ascii();
    ensure!(!password.is_empty(), "{}: it has none", what());
    ensure!(!password.starts_with(b"$ANSIBLE_VAULT"), "{}: it is encrypted itself", what());
    Ok(password.to_vec())
}

/// What a program prints; what it says on standard error is its own, and goes to the terminal.
fn printed(path: &Path, label: Option<&str>) -> Result<Vec<u8>> {
    let is_client = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("-client"));
    // A bare name would be looked for in PATH.
    let mut program = Command::new(std::path::absolute(path)?);
    if is_client {
        program.args(["--vault-id", label.filter(|l| !l.is_empty()).unwrap_or("default")]);
    }
    let output = program.stderr(Stdio::inherit()).output()?;
    ensure!(
        output.status.success(),
        "the program ended with {}; a file that is none must not be executable",
        output.status
    );
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_ui::Output;

    #[test]
    fn passwords_come_from_files_and_programs_and_are_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let plain = write("plain", "  se cret\n\n", 0o600);
        let program = write("program", "#!/bin/sh\necho of-program $#\n", 0o700);
        let client = write("my-client.sh", "#!/bin/sh\necho \"$1 $2\"\n", 0o700);
        assert_eq!(of_file(&plain, None).unwrap(), b"se cret");
        assert_eq!(of_file(&program, Some("x")).unwrap(), b"of-program 0");
        assert_eq!(of_file(&client, Some("lab")).unwrap(), b"--vault-id lab");
        assert_eq!(of_file(&client, None).unwrap(), b"--vault-id default");
        for (name, text, mode, why) in [
            ("empty", "\n", 0o600, "it has none"),
            ("no-program", "secret\n", 0o700, "read the vault's password"),
            ("fails", "#!/bin/sh\necho secret; exit 3\n", 0o700, "exit status: 3"),
            ("sealed", "$ANSIBLE_VAULT;1.1;AES256\n33\n", 0o600, "encrypted itself"),
        ] {
            let error = format!("{:#}", of_file(&write(name, text, mode), None).unwrap_err());
            assert!(error.contains(why) && error.contains(name) && !error.contains("secret"), "{error}");
        }
        assert!(of_file(&dir.path().join("absent"), None).is_err());

        let args = VaultArgs { vault_password_file: vec![plain], ..VaultArgs::default() };
        let vault = passwords(&args, &Ui::new(Output::Text, true)).unwrap();
        assert_eq!(opened(Path::new("f"), "a: 1\n".to_owned(), &vault).unwrap(), "a: 1\n");
        let refused = opened(Path::new("f"), "$ANSIBLE_VAULT;1.1;AES256\n33\n".to_owned(), &vault).unwrap_err();
        assert!(refused.message().contains("'f'"), "{}", refused.message());
    }
}
