//! What the console knows of its connection, learned from the answers, and its prompt.

use crate::remote::Reply;

/// What the prompt tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Whether commands are queued for `EXEC`.
    pub in_transaction: bool,
}

impl State {
    /// Takes note of a command's answer.
    pub fn after(&mut self, words: &[Vec<u8>], reply: &Reply) {
        let Some(command) = words.first() else { return };
        let failed = matches!(reply, Reply::Error(_));
        match command.to_ascii_lowercase().as_slice() {
            b"multi" if !failed => self.in_transaction = true,
            // A transaction that fails is over, too.
            b"exec" => self.in_transaction = false,
            b"discard" | b"reset" if !failed => self.in_transaction = false,
            _ => {}
        }
    }

    /// The prompt; `None` for not connected.
    pub fn prompt(self, address: Option<&str>) -> String {
        match address {
            None => "not connected> ".to_owned(),
            Some(address) => format!("{address}{}> ", if self.in_transaction { "(TX)" } else { "" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_shows_from_multi_to_its_end() {
        let ok = Reply::Status(b"OK".to_vec());
        let error = Reply::Error(b"ERR no".to_vec());
        let mut state = State::default();
        let mut say = |command: &str, reply: &Reply| {
            state.after(&[command.as_bytes().to_vec()], reply);
            state.prompt(Some("a:1"))
        };
        assert_eq!(say("MULTI", &error), "a:1> ");
        assert_eq!(say("multi", &ok), "a:1(TX)> ");
        assert_eq!(say("SET", &Reply::Status(b"QUEUED".to_vec())), "a:1(TX)> ");
        assert_eq!(say("DISCARD", &error), "a:1(TX)> ");
        assert_eq!(say("EXEC", &error), "a:1> ");
        assert_eq!(say("MULTI", &ok), "a:1(TX)> ");
        assert_eq!(say("DISCARD", &ok), "a:1> ");
        assert_eq!(state.prompt(None), "not connected> ");
    }
}
