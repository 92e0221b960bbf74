//! The passwords of ansible-vault: from files, from programs that print them, and from the terminal.
//!
//! Must not know what they open. Rules are Ansible's: a password is a file's text or what an executable file prints, without
//! blanks around it; a program whose name ends in `-client` is asked with `--vault-id LABEL`.

use crate::{
    args::{PasswordSource, VaultArgs, VaultId},
    remote::expand_home,
};
use anyhow::{Context, Result, ensure};
use osier_inventory::{Vault, is_encrypted};
use osier_ui::{ExitKind, Failure, Ui};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

/// All passwords that the arguments and Ansible's variables name; each is asked for once. Where there are several, a file that is
/// not there is passed over with a warning: who shares an inventory need not have all of them.
pub(crate) fn passwords(args: &VaultArgs, ui: &Ui) -> Result<Vault, Failure> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    passwords_of(args, &variable("ANSIBLE_VAULT_PASSWORD_FILE"), &variable("ANSIBLE_VAULT_IDENTITY_LIST"), ui)
}

fn passwords_of(args: &VaultArgs, file: &str, list: &str, ui: &Ui) -> Result<Vault, Failure> {
    let mut ids = args.vault_id.clone();
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let id = word.parse().map_err(|e| Failure::usage(format!("read ANSIBLE_VAULT_IDENTITY_LIST: {e}")));
        ids.push(id?);
    }
    let files = args.vault_password_file.iter().map(|path| path.to_string_lossy());
    let files = files.chain([file.trim().into()]).filter(|path| !path.is_empty());
    ids.extend(files.map(|path| VaultId { label: String::new(), source: PasswordSource::File(path.as_ref().into()) }));
    let (mut passwords, mut missing) = (Vec::new(), Vec::new());
    for VaultId { label, source } in &ids {
        match source {
            PasswordSource::Prompt => passwords.push(asked(label, ui)?),
            PasswordSource::File(path) => {
                let path = expand_home(&path.to_string_lossy());
                match of_file(&path, label) {
                    Ok(password) => passwords.push(password),
                    Err(error) if !path.exists() => missing.push(error),
                    Err(error) => return Err(Failure::new(ExitKind::Usage, error)),
                }
            }
        }
    }
    if args.ask_vault_password {
        passwords.push(asked("", ui)?);
    }
    match missing.pop() {
        Some(error) if passwords.is_empty() => return Err(Failure::new(ExitKind::Usage, error)),
        last => missing.extend(last),
    }
    missing.iter().for_each(|error| ui.warn(format_args!("{error:#}")));
    Ok(Vault::new(passwords))
}

/// The text of a file, opened where all of it is encrypted.
pub(crate) fn opened(path: &Path, text: String, vault: &Vault) -> Result<String, Failure> {
    if !is_encrypted(&text) {
        return Ok(text);
    }
    vault
        .open_file(&path.display().to_string(), &text)
        .map_err(|e| Failure::usage(format!("read '{}': {e}", path.display())))
}

fn asked(label: &str, ui: &Ui) -> Result<Vec<u8>, Failure> {
    let of = if label.is_empty() { String::new() } else { format!(" ({label})") };
    let password = ui.password(&format!("Vault password{of}: "))?;
    let password = password.trim_ascii();
    if password.is_empty() {
        return Err(Failure::usage("the vault's password is empty"));
    }
    Ok(password.as_bytes().to_vec())
}

fn of_file(path: &Path, label: &str) -> Result<Vec<u8>> {
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
fn printed(path: &Path, label: &str) -> Result<Vec<u8>> {
    let is_client = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("-client"));
    // A bare name would be looked for in PATH.
    let mut program = Command::new(std::path::absolute(path)?);
    if is_client {
        program.args(["--vault-id", if label.is_empty() { "default" } else { label }]);
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
        assert_eq!(of_file(&plain, "").unwrap(), b"se cret");
        assert_eq!(of_file(&program, "x").unwrap(), b"of-program 0");
        assert_eq!(of_file(&client, "lab").unwrap(), b"--vault-id lab");
        assert_eq!(of_file(&client, "").unwrap(), b"--vault-id default");
        for (name, text, mode, why) in [
            ("empty", "\n", 0o600, "it has none"),
            ("no-program", "secret\n", 0o700, "read the vault's password"),
            ("fails", "#!/bin/sh\necho secret; exit 3\n", 0o700, "exit status: 3"),
            ("sealed", "$ANSIBLE_VAULT;1.1;AES256\n33\n", 0o600, "encrypted itself"),
        ] {
            let error = format!("{:#}", of_file(&write(name, text, mode), "").unwrap_err());
            assert!(error.contains(why) && error.contains(name) && !error.contains("secret"), "{error}");
        }
        assert!(of_file(&dir.path().join("absent"), "").is_err());

        let (ui, absent) = (Ui::new(Output::Text, true), dir.path().join("absent"));
        let args = |files: &[&Path]| VaultArgs {
            vault_password_file: files.iter().map(|path| path.to_path_buf()).collect(),
            ..VaultArgs::default()
        };
        let count = |args: &VaultArgs, file: &Path, list: &str| {
            passwords_of(args, &file.display().to_string(), list, &ui)
                .map(|vault| format!("{vault:?}"))
                .map_err(|f| f.message())
        };
        let list = format!(" a@{} ,{}, ", program.display(), client.display());
        assert_eq!(count(&args(&[&plain]), &program, &list), Ok("Vault(4 passwords)".to_owned()));
        assert_eq!(count(&args(&[&plain, &absent]), Path::new(""), ""), Ok("Vault(1 passwords)".to_owned()));
        assert_eq!(count(&args(&[]), Path::new(""), " "), Ok("Vault(0 passwords)".to_owned()));
        assert!(count(&args(&[&absent]), Path::new(""), "").is_err_and(|e| e.contains("absent")));
        assert!(count(&args(&[]), Path::new(""), "x@").is_err_and(|e| e.contains("ANSIBLE_VAULT_IDENTITY_LIST")));
        let vault = passwords_of(&args(&[&plain]), "", "", &ui).unwrap();
        assert_eq!(opened(Path::new("f"), "a: 1\n".to_owned(), &vault).unwrap(), "a: 1\n");
        let refused = opened(Path::new("f"), "$ANSIBLE_VAULT;1.1;AES256\n33\n".to_owned(), &vault).unwrap_err();
        assert!(refused.message().contains("'f'"), "{}", refused.message());
    }
}
