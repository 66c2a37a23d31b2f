//! A configuration file in TOML, as settings with the lines they stand in.

use std::path::Path;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{find, unknown};
use super::layers::{Place, Setting};

/// Longest file that is read: a configuration is a page or two.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The settings of a file, and its users, who are tables in a list.
pub type Contents = (Vec<Setting>, Option<Setting>);

/// Reads a file.
///
/// # Errors
/// Why it cannot be read, or where it is no TOML, or which keys of it are unknown.
#[expect(
    clippy::disallowed_methods,
    reason = "read before any core runs, and not the engine's"
)]
pub fn read(path: &Path) -> Result<Contents, String> {
    let told = |error: std::io::Error| format!("reading the configuration {}: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(told)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(format!(
            "reading the configuration {}: it has {bytes} bytes; at most {MAX_FILE_BYTES} are read",
            path.display()
        ));
    }
    parse(path, &std::fs::read_to_string(path).map_err(told)?)
}

/// The settings of a text that came from `path`.
///
/// # Errors
/// As for [`read`].
pub fn parse(path: &Path, text: &str) -> Result<Contents, String> {
    let table = DeTable::parse(text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut reading = Reading {
        path,
        text,
        settings: Vec::new(),
        users: None,
        problems: Vec::new(),
    };
    reading.table("", table.get_ref());
    if reading.problems.is_empty() {
        Ok((reading.settings, reading.users))
    } else {
        Err(reading.problems.join("\n"))
    }
}

struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
    settings: Vec<Setting>,
    users: Option<Setting>,
    problems: Vec<String>,
}

impl Reading<'_> {
    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        let before = &self.text.as_bytes()[..spanned.span().start.min(self.text.len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Place::File(self.path.to_owned(), line)
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = match section {
                "" => key.get_ref().to_string(),
                section => format!("{section}.{}", key.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(inner) if section.is_empty() => self.table(&name, inner),
                DeValue::Array(users) if name == "users" => {
                    for user in users {
                        self.user(user);
                    }
                    self.users = Some(Setting {
                        value: plain(value.get_ref()),
                        place: self.place(key),
                        name,
                    });
                }
                other => self.settings.push(Setting {
                    value: plain(other),
                    place: self.place(key),
                    name,
                }),
            }
        }
    }

    /// Checks one user: the parts of a list have no settings of their own.
    fn user(&mut self, user: &Spanned<DeValue<'_>>) {
        let DeValue::Table(fields) = user.get_ref() else {
            let place = self.place(user);
            self.problems
                .push(format!("{place}: users must be tables: [[users]]"));
            return;
        };
        for (key, value) in fields {
            let name = format!("users[].{}", key.get_ref());
            let why = match find(&name) {
                Some(key) => key.check(&plain(value.get_ref())).err(),
                None => Some(unknown(&name)),
            };
            if let Some(why) = why {
                let place = self.place(key);
                self.problems.push(format!("{place}: {why}"));
            }
        }
        for needed in ["name", "role", "secret_hash"] {
            if !fields.keys().any(|key| key.get_ref() == needed) {
                let place = self.place(user);
                self.problems.push(format!("{place}: a user without {needed}"));
            }
        }
    }
}

/// A value without its places.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        // A number too large for 64 bits is in no key's range: it stays a text, and is refused as one.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| plain(item.get_ref())).collect(),
        DeValue::Table(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref())))
                .collect(),
        ),
    }
}
