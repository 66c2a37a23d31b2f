//! What each key of the configuration is: its kind and range, and a line for the manual. Unknown names and bad values
//! are told by this table, whichever layer they come from; a test holds it against the structs that keep the values.

use serde_json::Value;

use super::manual::KEYS;

/// What a key's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number in a range, both ends included.
    Number(u64, u64),
    /// Some text; what it means is checked once all layers are one.
    Text,
    /// An IP address.
    Address,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Several texts.
    List,
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Section and name, such as `server.port`; `users[].name` for one in a list of tables.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What it does, for the manual.
    pub about: &'static str,
}

/// The key of a name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// How alike two names must be (0 to 1) for the one to be offered for the other.
const ALIKE: f64 = 0.7;

/// The name that somebody who wrote `name` may have meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|key| (strsim::jaro_winkler(name, key.name), key.name))
        .filter(|&(alike, _)| alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// What is wrong with a name, and what may have been meant.
pub fn unknown(name: &str) -> String {
    match nearest(name) {
        Some(near) => format!("unknown key {name}; did you mean {near}?"),
        None => format!("unknown key {name}; `corelane config default` shows all keys"),
    }
}

impl Kind {
    /// The range in words.
    pub fn range(self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Number(least, u64::MAX) => format!("a whole number of at least {least}"),
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Text => "text".to_owned(),
            Self::Address => "an IP address such as 127.0.0.1 or ::1".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List => "a list of texts".to_owned(),
        }
    }

    /// Whether a value is in the range.
    pub fn takes(self, value: &Value) -> bool {
        match self {
            Self::Flag => value.is_boolean(),
            Self::Number(least, most) => value.as_u64().is_some_and(|n| (least..=most).contains(&n)),
            Self::Text => value.is_string(),
            Self::Address => value
                .as_str()
                .is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
            Self::Choice(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Self::List => value
                .as_array()
                .is_some_and(|items| items.iter().all(Value::is_string)),
        }
    }

    /// The value of a text, as environment and flags have it: a list is cut at its commas. A text that cannot be of this
    /// kind stays a text, and is refused as one.
    pub fn read(self, text: &str) -> Value {
        let as_text = || Value::from(text);
        match self {
            Self::Flag => text.parse::<bool>().map_or_else(|_| as_text(), Value::from),
            Self::Number(..) => text.parse::<u64>().map_or_else(|_| as_text(), Value::from),
            Self::Text | Self::Address | Self::Choice(_) => as_text(),
            Self::List => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .collect(),
        }
    }
}

impl Key {
    /// Whether its value is nobody's business.
    pub fn secret(&self) -> bool {
        self.name.ends_with("secret_hash")
    }

    /// What is wrong with a value, if anything.
    ///
    /// # Errors
    /// Key, value and range, in words.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        if self.kind.takes(value) {
            return Ok(());
        }
        let shown = if self.secret() {
            "a secret".to_owned()
        } else {
            value.to_string()
        };
        Err(format!(
            "{} = {shown}: it must be {}",
            self.name,
            self.kind.range()
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Config, Role, User};

    /// The names of the leaves of a serialized struct.
    fn names(at: &str, value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let name = if at.is_empty() {
                        name.clone()
                    } else {
                        format!("{at}.{name}")
                    };
                    names(&name, value, into);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                names(&format!("{at}[]"), &items[0], into);
            }
            _ => drop(into.insert(at.to_owned())),
        }
    }

    #[test]
    fn the_manual_names_every_key_that_there_is_and_no_other() {
        let config = Config {
            users: vec![User {
                name: "a".to_owned(),
                role: Role::Read,
                secret_hash: "b".to_owned(),
            }],
            ..Config::default()
        };
        let mut kept = BTreeSet::new();
        names("", &serde_json::to_value(&config).unwrap(), &mut kept);
        let told: BTreeSet<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        assert_eq!(kept, told);
        assert_eq!(told.len(), KEYS.len(), "each once");
    }

    #[test]
    fn a_misspelt_key_is_told_the_nearest_name() {
        assert_eq!(nearest("server.prot"), Some("server.port"));
        assert_eq!(nearest("storage.cache_mb"), Some("storage.cache_mib"));
        assert!(unknown("limit.clients").contains("did you mean limits.clients?"));
        assert!(unknown("xyzzy").contains("config default"));
    }

    #[test]
    fn a_bad_value_is_told_its_key_and_its_range() {
        let port = find("server.port").unwrap();
        assert_eq!(port.check(&Value::from(65_535)), Ok(()));
        for value in [
            Value::from(65_536),
            Value::from(-1),
            Value::from("x"),
            Value::from(1.5),
        ] {
            let why = port.check(&value).unwrap_err();
            assert!(
                why.contains(&value.to_string()) && why.contains("0 to 65535"),
                "{why}"
            );
        }
        let hash = find("users[].secret_hash").unwrap();
        assert!(!hash.check(&Value::from(5_711)).unwrap_err().contains("5711"));
    }

    #[test]
    fn texts_are_read_by_the_kind_of_their_key() {
        assert_eq!(Kind::Number(0, 9).read("7"), Value::from(7));
        assert_eq!(Kind::Text.read("7"), Value::from("7"));
        assert_eq!(Kind::Flag.read("true"), Value::from(true));
        assert_eq!(Kind::List.read("a, b,"), serde_json::json!(["a", "b"]));
        assert!(!Kind::Flag.takes(&Kind::Flag.read("yes")));
    }
}
