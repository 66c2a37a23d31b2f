//! Reads a secret: from the terminal without showing it, or from a pipe.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Longest secret: as long as a login may send (`unknown_argument_bytes`).
const MAX_SECRET_BYTES: u64 = 16 << 10;

/// Shows typed characters again when it goes.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone away.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// One line, its end taken off. `prompt` is shown at a terminal only.
///
/// # Errors
/// What is wrong with the input: it cannot be read, or is empty, too long, or not text.
pub fn read(prompt: &str) -> Result<String, String> {
    let failed = |error: io::Error| format!("reading the secret: {error}");
    let quiet = if io::stdin().is_terminal() {
        let _gone = write!(io::stderr(), "{prompt}");
        Some(Quiet::begin().map_err(failed)?)
    } else {
        None
    };
    let mut line = Vec::new();
    let read = io::Read::take(io::stdin().lock(), MAX_SECRET_BYTES + 2).read_until(b'\n', &mut line);
    drop(quiet);
    read.map_err(failed)?;
    secret(line)
}

fn secret(mut line: Vec<u8>) -> Result<String, String> {
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    if line.is_empty() {
        return Err(
            "the secret is empty; type it, or pipe it in: printf %s \"$SECRET\" | corelane …".to_owned(),
        );
    }
    if line.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!(
            "the secret is longer than {MAX_SECRET_BYTES} bytes, which no login may send"
        ));
    }
    String::from_utf8(line).map_err(|_| "the secret is not UTF-8 text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_line_without_its_end() {
        assert_eq!(secret(b"a b \r\n".to_vec()), Ok("a b ".to_owned()));
        assert_eq!(secret(b"x".to_vec()), Ok("x".to_owned()));
        assert!(secret(b"\n".to_vec()).unwrap_err().contains("empty"));
        assert!(secret(vec![0xff]).unwrap_err().contains("UTF-8"));
        assert!(secret(vec![b'a'; 20_000]).unwrap_err().contains("longer"));
    }
}
