//! One host: its master connection, and the commands that run over it.

use crate::{
    Command, Error, Output, Said, Secret, Stream, Target, Unreachable,
    command::{Input, Sudo},
    error::is_sudo_refusal,
    gate::{Gate, Sign},
    lines::Splitter,
};
use std::{
    collections::hash_map::RandomState,
    ffi::OsString,
    hash::{BuildHasher, Hasher},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::ChildStdin,
    sync::{Mutex, Semaphore, mpsc},
};

/// Commands that run on one host at a time; further ones wait.
pub const SESSIONS: usize = 8;
/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// Seconds that a master without sessions stays, should this process die without closing it.
const PERSIST: u32 = 60;
/// Seconds to wait for a host that does not answer.
const CONNECT_TIMEOUT: u32 = 10;
/// How long the master connection may take to say that it stands.
const CHECK: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a command that is to be stopped may take to say that it has begun.
const BEGIN: std::time::Duration = std::time::Duration::from_secs(5);
/// How long ending a command on a host may take, connecting included.
const END: std::time::Duration = std::time::Duration::from_secs(30);
/// Ends a process on a host and all that came of it.
const END_SCRIPT: &str = include_str!("end.sh");
/// The longest folder for control sockets: `ssh` needs 25 bytes of a socket's 108 for itself.
const LONGEST_FOLDER: usize = 70;

/// The place where master connections meet: a private folder, removed in the end.
#[derive(Debug)]
pub struct Connections {
    folder: Arc<TempDir>,
    next: AtomicU32,
}

/// One host and its master connection, which ends with this value.
#[derive(Debug)]
pub struct Host {
    name: String,
    target: Target,
    password: Option<Secret>,
    socket: PathBuf,
    connecting: Mutex<()>,
    sessions: Semaphore,
    _folder: Arc<TempDir>,
}

impl Connections {
    /// Makes the private folder (mode 0700), in the temporary folder or, where that is too long a path, in `/tmp`.
    pub fn new() -> Result<Self, Error> {
        let usual = std::env::temp_dir();
        let parent = if usual.as_os_str().len() > LONGEST_FOLDER { PathBuf::from("/tmp") } else { usual };
        let private = std::fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("osier-").permissions(private).tempdir_in(parent);
        let folder = folder.map_err(Error::Folder)?;
        Ok(Self { folder: Arc::new(folder), next: AtomicU32::new(0) })
    }

    /// The private folder; it goes with this value and all its hosts.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The host of this name (the user's word for it) at `target`. Nothing is connected yet.
    pub fn host(&self, name: impl Into<String>, target: Target) -> Host {
        Host {
            name: name.into(),
            target,
            password: None,
            socket: self.socket(),
            connecting: Mutex::new(()),
            sessions: Semaphore::new(SESSIONS),
            _folder: Arc::clone(&self.folder),
        }
    }

    /// A place for a control socket that nobody else gets.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// What keeps the places of control sockets there.
    pub(crate) fn kept(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }
}

/// What a call waits for that may end its command early.
type Stop<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

impl Host {
    /// The same with a password for `sudo`. It goes over the connection when `sudo` asks for it, and nowhere else.
    #[must_use]
    pub fn sudo_password(mut self, password: Option<Secret>) -> Self {
        self.password = password;
        self
    }

    /// The user's word for this host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Runs a command to its end; a failing command is no error here.
    pub async fn run(&self, command: &Command<'_>) -> Result<Output, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let on_bytes = |stream, bytes: &[u8]| match stream {
            Stream::Out => stdout.extend_from_slice(bytes),
            Stream::Err => stderr.extend_from_slice(bytes),
        };
        let code = self.session(command, None, on_bytes).await?.unwrap_or_default();
        self.judge(command, code, &stderr).await?;
        Ok(Output { code, stdout, stderr })
    }

    /// Runs a command that must succeed.
    pub async fn check(&self, command: &Command<'_>) -> Result<Output, Error> {
        let output = self.run(command).await?;
        if output.code == 0 { Ok(output) } else { Err(self.failed(command, output.code, &output.stderr)) }
    }

    /// Runs a command that must succeed, and hands over its standard output piece by piece instead of keeping it.
    pub async fn receive(&self, command: &Command<'_>, mut on_bytes: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut stderr = Vec::new();
        let on_any = |stream, bytes: &[u8]| match stream {
            Stream::Out => on_bytes(bytes),
            Stream::Err => stderr.extend_from_slice(bytes),
        };
        let code = self.session(command, None, on_any).await?.unwrap_or_default();
        self.judge(command, code, &stderr).await?;
        if code == 0 { Ok(()) } else { Err(self.failed(command, code, &stderr)) }
    }

    /// Runs a command and hands over each line of its outputs as it comes; gives back the exit code.
    pub async fn stream(&self, command: &Command<'_>, on_line: impl FnMut(Stream, &str)) -> Result<i32, Error> {
        Ok(self.lines(command, None, on_line).await?.unwrap_or_default())
    }

    /// As [`Self::stream`], until `stop` is ready: then the command and all that it started are ended on the host, and
    /// there is no exit code.
    pub async fn stream_until(
        &self,
        command: &Command<'_>,
        stop: impl Future<Output = ()> + Send,
        on_line: impl FnMut(Stream, &str),
    ) -> Result<Option<i32>, Error> {
        self.lines(command, Some(std::pin::pin!(stop)), on_line).await
    }

    async fn lines(
        &self,
        command: &Command<'_>,
        stop: Option<Stop<'_>>,
        mut on_line: impl FnMut(Stream, &str),
    ) -> Result<Option<i32>, Error> {
        let (mut out, mut err, mut last) = (Splitter::default(), Splitter::default(), String::new());
        let on_bytes = |stream, bytes: &[u8]| match stream {
            Stream::Out => out.push(bytes, &mut |line| on_line(Stream::Out, line)),
            Stream::Err => err.push(bytes, &mut |line| {
                line.clone_into(&mut last);
                on_line(Stream::Err, line);
            }),
        };
        let code = self.session(command, stop, on_bytes).await?;
        out.finish(&mut |line| on_line(Stream::Out, line));
        err.finish(&mut |line| {
            line.clone_into(&mut last);
            on_line(Stream::Err, line);
        });
        if let Some(code) = code {
            self.judge(command, code, last.as_bytes()).await?;
        }
        Ok(code)
    }

    /// Puts a file there as root, replacing `path` at once or not at all; its folder must exist.
    pub async fn push(&self, contents: &[u8], path: &str, mode: u32) -> Result<(), Error> {
        let script = r#"umask 077; t="$1.$$.new"; cat >"$t" && chmod "$2" "$t" && mv -f -- "$t" "$1" || { rm -f -- "$t"; exit 1; }"#;
        let command = Command::shell(script, [path.to_owned(), format!("{mode:o}")]).as_root().stdin(contents);
        self.check(&command).await.map(|_| ())
    }

    /// Ends the master connection.
    pub async fn close(self) {
        if self.socket.exists() {
            let _ = tokio::process::Command::from(self.master_command("exit")).status().await;
        }
    }

    /// Runs a command in a session of its own and hands over its outputs as they come; gives back the exit code, or
    /// nothing where `stop` came first and the command was ended.
    async fn session(
        &self,
        command: &Command<'_>,
        stop: Option<Stop<'_>>,
        mut on_bytes: impl FnMut(Stream, &[u8]),
    ) -> Result<Option<i32>, Error> {
        let can_stop = stop.is_some();
        let mut never = std::pin::pin!(std::future::pending());
        let mut stop: Stop<'_> = stop.unwrap_or(never.as_mut());
        let slot = tokio::select! { slot = self.sessions.acquire() => slot, () = &mut stop => return Ok(None) };
        tokio::select! { connected = self.connect() => connected?, () = &mut stop => return Ok(None) }
        tracing::debug!(host = self.name, command = command.program(), root = command.is_root(), "run");
        let sudo = if self.password.is_some() { Sudo::Asking } else { Sudo::Silent };
        let is_guarded = can_stop || (command.is_root() && sudo == Sudo::Asking);
        let mut gate = is_guarded.then(|| Gate::new(token()));
        let line = gate.as_ref().map_or_else(|| command.line(), |g| command.guarded_line(g.token(), sudo));
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(self.arguments("ControlMaster=no")).arg("--").arg(&self.target.host).arg(line);
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
        let mut stopping = false;
        let mut grace = std::pin::pin!(tokio::time::sleep(BEGIN));
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
                    (0, gate) => {
                        err_open = false;
                        gate.iter_mut().for_each(|g| g.finish(&mut |bytes| on_bytes(Stream::Err, bytes)));
                    }
                    (n, None) => on_bytes(Stream::Err, &err[..n]),
                    (n, Some(gate)) => for sign in gate.push(&err[..n], &mut |bytes| on_bytes(Stream::Err, bytes)) {
                        if let Sign::Begun(began) = sign {
                            pid = Some(began);
                        }
                        let _ = tell.send(sign);
                    },
                },
                () = &mut stop, if !stopping => {
                    stopping = true;
                    grace.as_mut().reset(tokio::time::Instant::now() + BEGIN);
                }
                // One that has not begun by now never will: it cannot say so any more, and that ends it.
                () = &mut grace, if stopping => return Ok(None),
            }
            // What it says may come before the sign that it begins: they come through two pipes.
            if let (true, Some(pid)) = (stopping, pid) {
                drop(slot);
                self.end(pid, command.is_root()).await?;
                return Ok(None);
            }
        }
        child.wait().await.map(exit_code).map(Some).map_err(Error::Program)
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

    /// Has the connection stand.
    pub async fn reach(&self) -> Result<(), Error> {
        self.connect().await
    }

    /// Makes the master connection unless there is one.
    async fn connect(&self) -> Result<(), Error> {
        let _one = self.connecting.lock().await;
        if self.socket.exists() {
            return Ok(());
        }
        // A file, not a pipe: the master goes on in the background, and old versions keep their standard error open.
        let log = self.socket.with_extension("log");
        let file = std::fs::File::create(&log).map_err(Error::Folder)?;
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-N", "-f"]).args(self.arguments("ControlMaster=yes"));
        ssh.arg("-o").arg(format!("ControlPersist={PERSIST}")).arg("--").arg(&self.target.host);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).env("LC_ALL", "C").kill_on_drop(true);
        let status = ssh.status().await.map_err(Error::Program)?;
        let stderr = std::fs::read(&log).unwrap_or_default();
        if status.success() { Ok(()) } else { Err(self.unreachable(&stderr)) }
    }

    fn arguments(&self, master: &str) -> Vec<OsString> {
        arguments(&self.target, &self.socket, master)
    }

    /// Whether the master connection stands. A master that is about to end is waited for: it answers no more.
    async fn has_master(&self) -> bool {
        let mut check = tokio::process::Command::from(self.master_command("check"));
        let asked = tokio::time::timeout(CHECK, check.kill_on_drop(true).status()).await;
        matches!(asked, Ok(Ok(status)) if status.success())
    }

    /// Says something to the master connection.
    fn master_command(&self, what: &str) -> std::process::Command {
        let mut ssh = std::process::Command::new("ssh");
        ssh.arg("-S").arg(&self.socket).args(["-O", what, "--"]).arg(&self.target.host);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        ssh
    }

    /// Tells failures of the connection and of `sudo` from those of the program.
    async fn judge(&self, command: &Command<'_>, code: i32, stderr: &[u8]) -> Result<(), Error> {
        // `ssh` ends with 255 when the connection breaks, and then its master is gone or going; a program may end so, too.
        if code == 255 && !self.has_master().await {
            return Err(self.unreachable(stderr));
        }
        if command.is_root() && is_sudo_refusal(code, stderr) {
            return Err(Error::NoSudo { host: self.name.clone(), said: Said::new(stderr) });
        }
        Ok(())
    }

    fn unreachable(&self, stderr: &[u8]) -> Error {
        let reason = Unreachable::from_stderr(stderr);
        Error::Unreachable { host: self.name.clone(), reason, said: Said::new(stderr) }
    }

    fn failed(&self, command: &Command<'_>, code: i32, stderr: &[u8]) -> Error {
        let (host, command) = (self.name.clone(), command.program().to_owned());
        Error::Failed { host, command, code, said: Said::new(stderr) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.socket.exists() {
            let _ = self.master_command("exit").status();
        }
    }
}

/// The arguments of every call of `ssh`, up to the host's name. The first value of an option wins, so ours that must hold
/// come before the user's, and those that are only defaults come after.
pub(crate) fn arguments(target: &Target, socket: &Path, master: &str) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let option = |args: &mut Vec<OsString>, text: &str| args.extend(["-o".into(), text.into()]);
    args.extend(["-S".into(), socket.into(), "-T".into()]);
    option(&mut args, master);
    option(&mut args, "BatchMode=yes");
    if let Some(user) = &target.user {
        args.extend(["-l".into(), user.into()]);
    }
    if let Some(port) = target.port {
        args.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(key) = &target.key {
        args.extend(["-i".into(), key.into()]);
    }
    args.extend(target.args.iter().map(Into::into));
    option(&mut args, &format!("ConnectTimeout={CONNECT_TIMEOUT}"));
    option(&mut args, "ServerAliveInterval=15");
    args
}

/// Writes a command's input; where it is guarded, once it has begun, and before that the password where `sudo` asks.
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
                Some(Sign::Begun(_)) => break,
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
