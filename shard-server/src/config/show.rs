//! A configuration as text: the effective one with the place of each value, and the manual.

use std::fmt::Write as _;

use serde_json::Value;

use super::Config;
use super::layers::Loaded;
use super::manual::{KEYS, SECTIONS};

/// What stands for a secret.
const MASK: &str = "\"(hidden)\"";

/// The effective configuration as TOML, each value with the layer that it comes from; secrets are hidden.
pub fn effective(loaded: &Loaded) -> String {
    let mut text = String::new();
    let values = value_of(&loaded.config);
    for (section, _) in SECTIONS.iter().filter(|(section, _)| *section != "users") {
        let _ = writeln!(text, "[{section}]");
        for (name, key) in keys_of(section) {
            let place = loaded.place(key);
            let _ = match &values[section][name] {
                Value::Null => writeln!(text, "# {name} is not set"),
                value => writeln!(text, "{name} = {}  # {place}", in_toml(value)),
            };
        }
        text.push('\n');
    }
    for user in &loaded.config.users {
        let place = loaded.place("users");
        let _ = writeln!(
            text,
            "[[users]]  # {place}\nname = {}\nrole = {}\nsecret_hash = {MASK}\n",
            in_toml(&Value::from(user.name.as_str())),
            in_toml(&value_of(user.role)),
        );
    }
    text.truncate(text.trim_end().len() + 1);
    text
}

/// A configuration file with every key at its default, explained: the manual.
pub fn manual() -> String {
    let mut text = String::from(
        "# Every key of corelane-server with its default. A value is taken from, in rising order: these defaults, the\n\
         # file given with --config, the environment (CORELANE_SECTION__KEY, such as CORELANE_SERVER__PORT), the flags.\n",
    );
    let defaults = value_of(Config::default());
    for (section, about) in SECTIONS {
        let users = *section == "users";
        let (open, close) = if users { ("# [[", "]]") } else { ("[", "]") };
        let _ = writeln!(text, "\n# {about}\n{open}{section}{close}");
        for (name, key) in keys_of(section) {
            let row = KEYS
                .iter()
                .find(|row| row.name == key)
                .expect("it was found there");
            let _ = writeln!(text, "# {} ({})", row.about, row.kind.range());
            let _ = match &defaults[section][name] {
                Value::Null => writeln!(text, "# {name} ="),
                value => writeln!(text, "{name} = {}", in_toml(value)),
            };
        }
    }
    text
}

/// The names of a section's keys, without and with the section.
fn keys_of(section: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().filter_map(move |key| {
        let rest = key.name.strip_prefix(section)?;
        let name = rest.strip_prefix('.').or_else(|| rest.strip_prefix("[]."))?;
        Some((name, key.name))
    })
}

fn value_of(data: impl serde::Serialize) -> Value {
    serde_json::to_value(data).expect("plain data has no part that JSON lacks")
}

/// A value as TOML writes it: texts, numbers, flags and lists of them look as in JSON.
fn in_toml(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::layers::Setting;
    use crate::config::{Role, User, file};

    fn load(text: &str) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        #[expect(clippy::disallowed_methods, reason = "a file of the test")]
        std::fs::write(&path, text).unwrap();
        Loaded::load(Some(&path), std::iter::empty(), Vec::new()).unwrap()
    }

    #[test]
    fn the_manual_is_a_file_that_says_what_the_defaults_are_and_names_every_key() {
        let text = manual();
        assert_eq!(load(&text).config, Config::default());
        let (settings, _) = file::parse(Path::new("x"), &text).unwrap();
        let set: Vec<_> = settings
            .iter()
            .map(|Setting { name, .. }| name.as_str())
            .collect();
        for key in KEYS {
            let name = key.name.rsplit('.').next().unwrap();
            assert!(
                set.contains(&key.name) || text.contains(&format!("# {name} =")),
                "{}",
                key.name
            );
            assert!(text.contains(key.about), "{}", key.name);
        }
    }

    #[test]
    fn what_is_shown_reads_back_and_hides_secrets() {
        let mut loaded = load("[server]\nport = 1\n[admin]\nhosts = [\"a\\\"b\"]\n");
        let shown = effective(&loaded);
        assert_eq!(load(&shown).config, loaded.config);
        assert!(
            shown.contains("port = 1  # ") && shown.contains("c.toml:2"),
            "{shown}"
        );
        assert!(shown.contains("cache_mib = 256  # default"), "{shown}");
        loaded.config.users.push(User {
            name: "ops".to_owned(),
            role: Role::Admin,
            secret_hash: "$argon2id$hidden-away".to_owned(),
        });
        let shown = effective(&loaded);
        assert!(shown.contains("name = \"ops\"") && shown.contains("role = \"admin\""));
        assert!(!shown.contains("hidden-away"), "{shown}");
    }
}
