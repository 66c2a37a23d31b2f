//! The console at a terminal: line editing, history, completion, hints, and the words that it answers itself.

use std::borrow::Cow;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::config::Configurer as _;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Context, Editor, Helper};

use super::hints::{self, Commands, Known};
use super::run::{Console, Ended, complain};
use super::{syntax, words};
use crate::remote::Reply;
use crate::tools::print;

/// Lines that the history keeps.
const HISTORY_LINES: usize = 10_000;

/// What the editor asks while a line is typed.
#[derive(Debug)]
struct Assistant(Commands);

impl Helper for Assistant {}
impl Validator for Assistant {}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[90m{hint}\x1b[0m"))
    }
}

impl Hinter for Assistant {
    type Hint = Shown;

    fn hint(&self, line: &str, pos: usize, _context: &Context<'_>) -> Option<Shown> {
        (pos == line.len())
            .then(|| hints::hint(&self.0, line).map(Shown))
            .flatten()
    }
}

/// A hint is to be read; it is not text to be taken over.
#[derive(Debug)]
struct Shown(String);

impl rustyline::hint::Hint for Shown {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(hints::completions(&self.0, &line[..pos]))
    }
}

/// Reads lines until the end of input or `quit`.
///
/// # Errors
/// What is wrong with the terminal.
pub fn run(mut console: Console, history: Option<PathBuf>) -> Result<(), String> {
    let told = match console.connect() {
        Ok(remote) => remote.call(&["COMMAND", "DOCS"]).map(known).unwrap_or_default(),
        Err(why) => {
            complain(why);
            Vec::new()
        }
    };
    let failed = |error: ReadlineError| format!("reading from the terminal: {error}");
    let mut editor = Editor::<Assistant, FileHistory>::new().map_err(failed)?;
    editor.set_completion_type(CompletionType::List);
    editor.set_auto_add_history(false);
    editor.set_max_history_size(HISTORY_LINES).map_err(failed)?;
    editor.set_helper(Some(Assistant(Commands::new(told))));
    let history = history.or_else(default_history);
    if let Some(path) = &history {
        // There is none the first time.
        let _none = editor.load_history(path);
    }
    loop {
        match editor.readline(&console.prompt()) {
            Ok(line) => {
                remember(&mut editor, &line);
                if own(&mut console, &mut editor, &line) {
                    continue;
                }
                if console.line(line.as_bytes()) == Ended::Quit {
                    break;
                }
            }
            // As in a shell: the line is given up, not the session.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(failed(error)),
        }
    }
    if let Some(path) = &history
        && let Err(error) = editor.save_history(path)
    {
        complain(format_args!("saving the history in {}: {error}", path.display()));
    }
    Ok(())
}

fn remember(editor: &mut Editor<Assistant, FileHistory>, line: &str) {
    let secret = match words::read(line.as_bytes()) {
        Ok(Some(line)) => words::is_secret(&line.words),
        // It may be a secret with a quote that does not close.
        Ok(None) | Err(_) => true,
    };
    if !secret {
        // Refused where the line is the one before it, which is wanted.
        let _kept = editor.add_history_entry(line);
    }
}

/// Words that the console answers itself; whether this was one.
fn own(console: &mut Console, editor: &mut Editor<Assistant, FileHistory>, line: &str) -> bool {
    let typed: Vec<&str> = line.split_ascii_whitespace().collect();
    match typed.as_slice() {
        ["clear"] => {
            let _gone = editor.clear_screen();
        }
        ["help" | "?", rest @ ..] => {
            let none = Commands::new(Vec::new());
            help(editor.helper().map_or(&none, |assistant| &assistant.0), rest);
        }
        ["connect", host, port] => match port.parse() {
            Ok(port) => {
                console.retarget((*host).to_owned(), port);
                if let Err(why) = console.connect() {
                    complain(why);
                }
            }
            Err(_) => complain(format_args!("connect HOST PORT: {port:?} is no port")),
        },
        _ => return false,
    }
    true
}

fn help(commands: &Commands, words: &[&str]) {
    print(help_text(commands, words));
}

fn help_text(commands: &Commands, words: &[&str]) -> String {
    let Some(name) = words.first().map(|word| word.to_ascii_lowercase()) else {
        return "help COMMAND       what a command does, and its arguments (Tab completes names)\n\
                connect HOST PORT  talk to another server\n\
                N COMMAND          run a command N times\n\
                clear, quit\n"
            .to_owned();
    };
    let Some(known) = commands.find(&name) else {
        return format!("There is no command {name}.\n");
    };
    let mut text = format!("{} (group: {})\n", known.summary, known.group);
    let upper = name.to_uppercase();
    match syntax::arguments(&name) {
        Some(arguments) => text += &format!("  {upper} {arguments}\n"),
        None => syntax::subcommands(&name).for_each(|second| {
            let arguments = syntax::arguments(&format!("{name} {second}")).unwrap_or_default();
            text += &format!("  {upper} {} {arguments}\n", second.to_uppercase());
        }),
    }
    text
}

/// What `COMMAND DOCS` tells, as a map (RESP3) or a flat array (RESP2).
fn known(reply: Reply) -> Vec<Known> {
    let text = |reply: &Reply| {
        reply
            .text()
            .map(|text| String::from_utf8_lossy(text).into_owned())
    };
    let commands = pairs(reply).into_iter().filter_map(|(name, facts)| {
        let facts = pairs(facts);
        let fact = |key: &str| {
            let (_, value) = facts.iter().find(|(k, _)| k.text() == Some(key.as_bytes()))?;
            text(value)
        };
        Some(Known {
            name: text(&name)?.to_ascii_lowercase(),
            summary: fact("summary").unwrap_or_default(),
            group: fact("group").unwrap_or_default(),
        })
    });
    commands.collect()
}

fn pairs(reply: Reply) -> Vec<(Reply, Reply)> {
    match reply {
        Reply::Map(pairs) => pairs,
        Reply::Array(items) => {
            let mut items = items.into_iter();
            std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
        }
        _ => Vec::new(),
    }
}

fn default_history() -> Option<PathBuf> {
    Some(std::env::home_dir()?.join(".corelane_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_tells_of_its_commands_is_read_in_both_protocols() {
        let bulk = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
        let facts = [("summary", "Gets."), ("group", "string")];
        let map = Reply::Map(facts.iter().map(|(k, v)| (bulk(k), bulk(v))).collect());
        let flat = Reply::Array(facts.iter().flat_map(|(k, v)| [bulk(k), bulk(v)]).collect());
        let resp3 = known(Reply::Map(vec![(bulk("GET"), map)]));
        let resp2 = known(Reply::Array(vec![bulk("get"), flat]));
        assert_eq!(resp2, resp3);
        assert_eq!(
            (
                resp2[0].name.as_str(),
                resp2[0].summary.as_str(),
                resp2[0].group.as_str()
            ),
            ("get", "Gets.", "string")
        );
        assert!(known(Reply::Error(b"ERR unknown command".to_vec())).is_empty());
    }
}
