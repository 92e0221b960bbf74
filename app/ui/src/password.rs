//! A line that is typed without being shown.

use nix::sys::{
    signal::{Signal, raise},
    termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr},
};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
};

/// What Ctrl-C types.
const INTERRUPT: u8 = 3;

/// A terminal that is as it was once this is gone.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// Asks at the process's own terminal. Ctrl-C ends the process as it always does, once the terminal is as it was.
pub(crate) fn ask(question: &str) -> io::Result<String> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let mut line = Vec::new();
    {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        // A line ends there, too, so that it is seen at once.
        quiet.control_chars[SpecialCharacterIndices::VEOL as usize] = INTERRUPT;
        let _quiet = Quiet { terminal: &terminal, before };
        tcsetattr(&terminal, SetArg::TCSANOW, &quiet)?;
        // Whoever reads the question may answer at once.
        write!(&terminal, "{question}")?;
        let mut typed = BufReader::new(&terminal);
        loop {
            let bytes = typed.fill_buf()?;
            let end = bytes.iter().position(|b| matches!(*b, b'\n' | INTERRUPT));
            line.extend_from_slice(&bytes[..end.map_or(bytes.len(), |at| at + 1)]);
            let (length, is_over) = (bytes.len(), end.is_some() || bytes.is_empty());
            typed.consume(length);
            if is_over {
                break;
            }
        }
    }
    writeln!(&terminal)?;
    if line.last() == Some(&INTERRUPT) {
        raise(Signal::SIGINT)?;
        return Err(io::ErrorKind::Interrupted.into());
    }
    let text = String::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
