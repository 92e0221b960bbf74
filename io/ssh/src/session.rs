//! One command on a host: a session over the master connection, from its input to its exit code.
//!
//! Must not know how a connection is made. A command over a connection that was found is given up where it does not begin
//! in time, and run again over a new one; since it waits for a word before it begins, it never runs twice.

use crate::{
    Command, Error, Host, Secret, Stream,
    command::{Input, Sudo},
    gate::{Gate, Sign},
    host::Stop,
    master::{Link, arguments},
};
use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    pin::Pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::ChildStdin,
    sync::mpsc,
};

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// How long a command over a connection that was found may take to begin.
const BEGIN: Duration = Duration::from_secs(5);
/// How long ending a command on a host may take, connecting included.
const END: Duration = Duration::from_secs(30);
/// Ends a process on a host and all that came of it.
const END_SCRIPT: &str = include_str!("end.sh");
/// What `ssh` ends with when there is no connection; a program may end so, too.
const NO_CONNECTION: i32 = 255;

/// What became of a command.
enum Ended {
    With(i32),
    /// It was to be stopped, and runs as this process, or never began.
    Stopped(Option<u32>),
    /// It never began: the connection is dead.
    Unbegun,
}

impl Host {
    /// Runs a command in a session of its own and hands over its outputs as they come; gives back the exit code, or
    /// nothing where `stop` came first and the command was ended.
    pub(crate) async fn session(
        &self,
        command: &Command<'_>,
        stop: Option<Stop<'_>>,
        mut on_bytes: impl FnMut(Stream, &[u8]),
    ) -> Result<Option<i32>, Error> {
        let can_stop = stop.is_some();
        let mut never = std::pin::pin!(std::future::pending());
        let mut stop: Stop<'_> = stop.unwrap_or(never.as_mut());
        let slot = tokio::select! { slot = self.sessions.acquire() => slot, () = &mut stop => return Ok(None) };
        loop {
            let link = tokio::select! { link = self.connect() => link?, () = &mut stop => return Ok(None) };
            let waits = Waits { stop: stop.as_mut(), can_stop };
            match self.attempt(command, &link, waits, &mut on_bytes).await? {
                Ended::With(code) => return Ok(Some(code)),
                Ended::Stopped(None) => return Ok(None),
                Ended::Stopped(Some(pid)) => {
                    drop(slot);
                    return self.end(pid, command.is_root()).await.map(|()| None);
                }
                Ended::Unbegun => {
                    tracing::debug!(host = self.name, "the connection that was found is dead");
                    self.note_found(false).await;
                }
            }
        }
    }

    /// Runs a command over one connection.
    async fn attempt(
        &self,
        command: &Command<'_>,
        link: &Link,
        Waits { mut stop, can_stop }: Waits<'_, '_>,
        on_bytes: &mut impl FnMut(Stream, &[u8]),
    ) -> Result<Ended, Error> {
        tracing::debug!(host = self.name, command = command.program(), root = command.is_root(), "run");
        let sudo = if self.password.is_some() { Sudo::Asking } else { Sudo::Silent };
        let is_guarded = can_stop || link.is_doubtful || (command.is_root() && sudo == Sudo::Asking);
        let mut gate = is_guarded.then(|| Gate::new(token()));
        let line = gate.as_ref().map_or_else(|| command.line(), |g| command.guarded_line(g.token(), sudo));
        let mut ssh = tokio::process::Command::new("ssh");
        let arguments = arguments(&self.target, &link.socket, "ControlMaster=no");
        ssh.args(arguments).arg("--").arg(&self.target.host).arg(line);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if can_stop {
            // A terminal's Ctrl-C is for us, who end the command first; it is not for `ssh`, which would leave it running.
            ssh.process_group(0);
        }
        let mut child = ssh.env("LC_ALL", "C").kill_on_drop(true).spawn().map_err(Error::Program)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(mut stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
            return Err(Error::Program(std::io::Error::other("a pipe is missing")));
        };
        let (tell, told) = mpsc::unbounded_channel();
        let write = write(stdin, command.input(), self.password.as_ref(), is_guarded.then_some(told));
        tokio::pin!(write);
        let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
        let (mut writing, mut out_open, mut err_open, mut pid) = (true, true, true, None);
        let mut patience = std::pin::pin!(tokio::time::sleep(BEGIN));
        while out_open || err_open {
            tokio::select! {
                written = &mut write, if writing => {
                    writing = false;
                    written?;
                }
                read = stdout.read(&mut out), if out_open => match read.map_err(Error::Program)? {
                    0 => out_open = false,
                    n => on_bytes(Stream::Out, &out[..n]),
                },
                read = stderr.read(&mut err), if err_open => match (read.map_err(Error::Program)?, &mut gate) {
                    (0, _) => err_open = false,
                    (n, None) => on_bytes(Stream::Err, &err[..n]),
                    (n, Some(gate)) => for sign in gate.push(&err[..n], &mut |bytes| on_bytes(Stream::Err, bytes)) {
                        if let Sign::Begun(began) = sign {
                            pid = Some(began);
                            if link.is_doubtful {
                                self.note_found(true).await;
                            }
                        }
                        let _ = tell.send(sign);
                    },
                },
                () = &mut stop => return Ok(Ended::Stopped(pid)),
                () = &mut patience, if link.is_doubtful && pid.is_none() => return Ok(Ended::Unbegun),
            }
        }
        let code = child.wait().await.map(exit_code).map_err(Error::Program)?;
        if link.is_doubtful && pid.is_none() && code == NO_CONNECTION {
            return Ok(Ended::Unbegun);
        }
        gate.iter_mut().for_each(|g| g.finish(&mut |bytes| on_bytes(Stream::Err, bytes)));
        Ok(Ended::With(code))
    }

    /// Ends a process on the host and all that came of it; as root where the login may not.
    fn end(&self, pid: u32, root: bool) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
        Box::pin(async move {
            let command = || Command::shell(END_SCRIPT, [pid.to_string()]);
            let tries = [(!root).then(command), Some(command().as_root())];
            for command in tries.into_iter().flatten() {
                match tokio::time::timeout(END, self.check(&command)).await {
                    Ok(Ok(_)) => return Ok(()),
                    Ok(Err(error)) => tracing::debug!(host = self.name, pid, %error, "a command could not be ended"),
                    Err(_) => tracing::debug!(host = self.name, pid, "ending a command takes too long"),
                }
            }
            Err(Error::NotEnded { host: self.name.clone(), pid })
        })
    }
}

/// What may end a command early.
struct Waits<'a, 'b> {
    stop: Pin<&'a mut (dyn Future<Output = ()> + Send + 'b)>,
    can_stop: bool,
}

/// Writes a command's input; where it is guarded, once it is ready to begin, with the word that it may before it, and before
/// that the password where `sudo` asks.
async fn write(
    mut stdin: ChildStdin,
    input: Input<'_>,
    password: Option<&Secret>,
    signs: Option<mpsc::UnboundedReceiver<Sign>>,
) -> Result<(), Error> {
    if let Some(mut signs) = signs {
        let mut password = password;
        loop {
            match signs.recv().await {
                Some(Sign::Begun(_)) => {
                    drop(stdin.write_all(b"\n").await);
                    break;
                }
                // Asked again, it was wrong: the end of the input makes `sudo` give up.
                Some(Sign::Asked) => match password.take() {
                    Some(password) => drop(stdin.write_all(&password.line()).await),
                    None => return Ok(()),
                },
                None => return Ok(()),
            }
        }
    }
    // A program may end without reading its input; its exit code says whether that was right.
    match input {
        Input::Bytes(bytes) => drop(stdin.write_all(bytes).await),
        Input::File(path) => {
            let mut file = tokio::fs::File::open(path).await.map_err(Error::Input)?;
            let mut piece = vec![0; CHUNK * 4];
            loop {
                let n = file.read(&mut piece).await.map_err(Error::Input)?;
                if n == 0 || stdin.write_all(&piece[..n]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = stdin.shutdown().await;
    Ok(())
}

/// A word that no output has by chance. It is no secret, only unforeseen: the hash keys are the system's random numbers.
fn token() -> String {
    let part = || RandomState::new().build_hasher().finish();
    format!("osier-{:016x}{:016x}", part(), part())
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
