//! What the console offers while a line is typed: how a name may end, and which arguments are still to come.
//!
//! Pure functions over the line and the commands known: our own table, and what the server told of its own.

use super::syntax;
use crate::command::table;

/// A command as `help` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name in lower case.
    pub name: String,
    /// What it is for.
    pub summary: String,
    /// Its family.
    pub group: String,
}

/// All commands that can be typed, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands(Vec<Known>);

impl Commands {
    /// Our own table's, and beside them those that the server told of.
    pub fn new(told: Vec<Known>) -> Self {
        let own = table::ALL.iter().map(|spec| Known {
            name: spec.name.to_owned(),
            summary: spec.summary.to_owned(),
            group: spec.group.to_owned(),
        });
        // What the server says of itself comes first, and of two alike the first is kept.
        let mut all: Vec<_> = told.into_iter().chain(own).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all.dedup_by(|later, earlier| later.name == earlier.name);
        Self(all)
    }

    /// The command of this name, in whatever case.
    pub fn find(&self, name: &str) -> Option<&Known> {
        let name = name.to_ascii_lowercase();
        let place = self
            .0
            .binary_search_by(|known| known.name.as_str().cmp(&name))
            .ok()?;
        Some(&self.0[place])
    }
}

/// Where the word under the cursor begins, and what it may become. Names in the case in which they were begun.
pub fn completions(commands: &Commands, line: &str) -> (usize, Vec<String>) {
    let start = line.rfind(' ').map_or(0, |space| space + 1);
    let before: Vec<&str> = line[..start].split_ascii_whitespace().collect();
    let typed = line[start..].to_ascii_lowercase();
    let names: Vec<&str> = match before.as_slice() {
        [] => {
            let names = commands.0.iter().map(|known| known.name.as_str());
            names.chain(["help", "connect", "clear", "exit"]).collect()
        }
        [help] if help.eq_ignore_ascii_case("help") => {
            commands.0.iter().map(|known| known.name.as_str()).collect()
        }
        [command] => syntax::subcommands(&command.to_ascii_lowercase()).collect(),
        _ => Vec::new(),
    };
    let lower = line[start..].bytes().any(|byte| byte.is_ascii_lowercase());
    let cased = |name: &str| {
        if lower {
            name.to_owned()
        } else {
            name.to_ascii_uppercase()
        }
    };
    let fitting = names.into_iter().filter(|name| name.starts_with(&typed));
    (start, fitting.map(cased).collect())
}

/// The arguments that are still to come behind `line`, for showing right behind it.
pub fn hint(commands: &Commands, line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    let command = words.next()?.to_ascii_lowercase();
    let mut given: Vec<&str> = words.collect();
    let arguments = match syntax::arguments(&command) {
        Some(arguments) => arguments.to_owned(),
        None => {
            let second = given.first().map(|word| word.to_ascii_lowercase());
            let second = second.and_then(|second| syntax::arguments(&format!("{command} {second}")));
            match second {
                Some(arguments) => {
                    given.remove(0);
                    arguments.to_owned()
                }
                None => unknown(commands, &command)?,
            }
        }
    };
    let rest = remaining(&arguments, &given);
    let gap = if line.ends_with(' ') { "" } else { " " };
    (!rest.is_empty()).then(|| format!("{gap}{rest}"))
}

/// The arguments of a command of which only the arity is known.
fn unknown(commands: &Commands, name: &str) -> Option<String> {
    commands.find(name)?;
    let spec = table::find(name.as_bytes())?;
    let must = usize::try_from(spec.arity.unsigned_abs()).ok()?.saturating_sub(1);
    let more = if spec.arity < 0 { " [arg …]" } else { "" };
    Some(format!("{}{more}", vec!["arg"; must].join(" ")).trim().to_owned())
}

/// What remains of `arguments` once `given` was typed: each word takes one argument that must be there; behind them an
/// option goes once its own word was typed, and what repeats stays.
fn remaining(arguments: &str, given: &[&str]) -> String {
    let parts = syntax::parts(arguments);
    let must = parts.iter().take_while(|part| !part.starts_with('[')).count();
    let repeats = parts.last() == Some(&"…");
    if given.len() < must {
        return parts[given.len()..].join(" ");
    }
    if repeats {
        return "…".to_owned();
    }
    let options = &given[must..];
    let taken = |part: &str| {
        let names = part.split(|sign: char| !(sign.is_ascii_uppercase() || sign == '-'));
        let mut names = names.filter(|name| name.len() > 1).peekable();
        // An option without a word of its own, such as `[count]`, goes by being there.
        match names.peek() {
            None => !options.is_empty(),
            Some(_) => names.any(|name| options.iter().any(|given| given.eq_ignore_ascii_case(name))),
        }
    };
    let left = parts[must..].iter().filter(|part| !taken(part));
    left.copied().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> Commands {
        Commands::new(vec![Known {
            name: "zadd".to_owned(),
            summary: "Told by the server.".to_owned(),
            group: "sorted-set".to_owned(),
        }])
    }

    fn hinted(line: &str) -> String {
        hint(&commands(), line).unwrap_or_default()
    }

    #[test]
    fn arguments_go_as_they_are_typed() {
        assert_eq!(hinted("get"), " key");
        assert_eq!(hinted("GET "), "key");
        assert_eq!(hinted("get k"), "");
        assert_eq!(hinted("copy a"), " destination [DB 0] [REPLACE]");
        assert_eq!(hinted("copy a b replace "), "[DB 0]");
        assert_eq!(hinted("mset a b "), "…");
        assert_eq!(hinted("config get"), " parameter …");
        assert_eq!(hinted("slowlog get 3"), "");
        assert_eq!(hinted(""), "");
        assert_eq!(hinted("nonsense a"), "");
        let set = hinted("set k v ex 10 ");
        assert!(set.starts_with("[NX|XX] [GET]") && !set.contains("PXAT"), "{set}");
    }

    #[test]
    fn names_are_completed_in_the_case_in_which_they_were_begun() {
        let completed = |line: &str| completions(&commands(), line);
        assert_eq!(completed("inf"), (0, vec!["info".to_owned()]));
        assert_eq!(completed("ZA"), (0, vec!["ZADD".to_owned()]));
        assert_eq!(completed("config g"), (7, vec!["get".to_owned()]));
        assert_eq!(completed("CLIENT SETN"), (7, vec!["SETNAME".to_owned()]));
        assert_eq!(completed("help inf"), (5, vec!["info".to_owned()]));
        assert_eq!(completed("get inf"), (4, vec![]));
        assert!(completed("").1.len() > 20);
    }

    #[test]
    fn what_the_server_tells_of_itself_goes_before_our_own_table() {
        let told = Known {
            name: "get".to_owned(),
            summary: "Another server's.".to_owned(),
            group: "x".to_owned(),
        };
        let commands = Commands::new(vec![told.clone()]);
        assert_eq!(commands.find("GET"), Some(&told));
        assert_eq!(commands.find("set").unwrap().group, "string");
        assert!(commands.find("zadd").is_none());
    }
}
