//! Whom `CLIENT KILL` and `CLIENT LIST` mean. Pure, in the grammar and the words of Redis 7.0.

use super::facts::Client;
use crate::command::Failure;
use crate::resp::number::parse_i64;
use crate::resp::request::Arguments;

/// Kinds of clients that Redis tells apart. All clients here are normal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any client.
    Normal,
    /// Kinds of which there are none here: replicas, masters, subscribers.
    Absent,
}

impl Kind {
    fn parse(name: &[u8]) -> Result<Self, Failure> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Self::Normal),
            b"master" | b"replica" | b"slave" | b"pubsub" => Ok(Self::Absent),
            _ => {
                let name = String::from_utf8_lossy(name);
                Err(Failure::err(format_args!("Unknown client type '{name}'")))
            }
        }
    }
}

/// Whom a `CLIENT KILL` means: those that fit every part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kill {
    id: Option<u64>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    kind: Option<Kind>,
    /// Whether the client that asks is spared.
    pub skip_me: bool,
    /// Asked by the address alone: answered with `OK` or an error rather than a number.
    pub by_address: bool,
}

impl Kill {
    /// Reads the arguments behind `CLIENT KILL`. `knows` tells whether there is such a user.
    ///
    /// # Errors
    /// The answer where they do not follow the grammar.
    pub fn parse(arguments: Arguments<'_>, knows: impl Fn(&[u8]) -> bool) -> Result<Self, Failure> {
        if arguments.count() == 3 {
            return Ok(Self {
                address: Some(arguments.at(2).to_vec()),
                by_address: true,
                ..Self::default()
            });
        }
        let mut kill = Self {
            skip_me: true,
            ..Self::default()
        };
        let mut place = 2;
        while let Some(option) = arguments.get(place) {
            let value = arguments.get(place + 1).ok_or(Failure::SYNTAX)?;
            match option.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = parse_i64(value).filter(|&id| id > 0);
                    let id = id.ok_or(Failure::fixed("ERR client-id should be greater than 0"))?;
                    kill.id = u64::try_from(id).ok();
                }
                b"type" => kill.kind = Some(Kind::parse(value)?),
                b"addr" => kill.address = Some(value.to_vec()),
                b"laddr" => kill.local_address = Some(value.to_vec()),
                b"user" if knows(value) => kill.user = Some(value.to_vec()),
                b"user" => {
                    let name = String::from_utf8_lossy(value);
                    return Err(Failure::err(format_args!("No such user '{name}'")));
                }
                b"skipme" => kill.skip_me = yes_or_no(value)?,
                _ => return Err(Failure::SYNTAX),
            }
            place += 2;
        }
        Ok(kill)
    }

    /// Whether it means this client, asked by the client of this number.
    pub fn means(&self, client: &Client, asker: u64) -> bool {
        let text = |wanted: &Option<Vec<u8>>, is: std::net::SocketAddr| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted == is.to_string().as_bytes())
        };
        let user = |wanted: &Vec<u8>| client.names().user.as_bytes() == wanted.as_slice();
        self.id.is_none_or(|id| id == client.id)
            && text(&self.address, client.address)
            && text(&self.local_address, client.local_address)
            && self.user.as_ref().is_none_or(user)
            && self.kind.is_none_or(|kind| kind == Kind::Normal)
            && !(self.skip_me && client.id == asker)
    }
}

fn yes_or_no(value: &[u8]) -> Result<bool, Failure> {
    match value.to_ascii_lowercase().as_slice() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(Failure::SYNTAX),
    }
}

/// Whom a `CLIENT LIST` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List {
    /// Everybody.
    All,
    /// Those of a kind.
    Kind(Kind),
    /// Those of these numbers, in this order.
    Ids(Vec<u64>),
}

impl List {
    /// Reads the arguments behind `CLIENT LIST`.
    ///
    /// # Errors
    /// The answer where they do not follow the grammar.
    pub fn parse(arguments: Arguments<'_>) -> Result<Self, Failure> {
        let Some(option) = arguments.get(2) else {
            return Ok(Self::All);
        };
        match (option.to_ascii_lowercase().as_slice(), arguments.count()) {
            (b"type", 4) => Ok(Self::Kind(Kind::parse(arguments.at(3))?)),
            (b"id", 4..) => {
                let id = |text| parse_i64(text).and_then(|id| u64::try_from(id).ok());
                let ids = arguments.from(3).map(id).collect::<Option<_>>();
                Ok(Self::Ids(ids.ok_or(Failure::fixed("ERR Invalid client ID"))?))
            }
            _ => Err(Failure::SYNTAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Arrival;

    /// Runs `parse` over the words behind `CLIENT`.
    fn parsed<R>(words: &str, parse: impl Fn(Arguments<'_>) -> R) -> R {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        crate::resp::inline::split(format!("CLIENT {words}").as_bytes(), &mut bytes, &mut ranges).unwrap();
        parse(Arguments::new(&bytes, &ranges))
    }

    fn kill(words: &str) -> Result<Kill, String> {
        let knows = |name: &[u8]| name == b"ada";
        parsed(words, |arguments| Kill::parse(arguments, knows)).map_err(|failure| failure.0.into_owned())
    }

    #[test]
    fn kill_means_those_who_fit_every_part() {
        let arrival = Arrival {
            address: ([10, 0, 0, 1], 99).into(),
            local_address: ([10, 0, 0, 2], 7379).into(),
            core: 0,
            now_ms: 0,
            own_core: false,
        };
        let client = Client::new(7, arrival);
        client.names().user = "ada".to_owned();
        let cases = [
            ("KILL 10.0.0.1:99", true),
            ("KILL 10.0.0.1:98", false),
            ("KILL ID 7", true),
            ("KILL ID 8", false),
            ("KILL ADDR 10.0.0.1:99 LADDR 10.0.0.2:7379", true),
            ("KILL LADDR 10.0.0.1:99 ID 7", false),
            ("KILL USER ada type normal", true),
            ("KILL TYPE pubsub", false),
            ("KILL TYPE replica ID 7", false),
        ];
        for (words, means) in cases {
            assert_eq!(kill(words).unwrap().means(&client, 1), means, "{words}");
        }
        assert!(!kill("KILL ID 7").unwrap().means(&client, 7), "itself is skipped");
        assert!(kill("KILL ID 7 SKIPME no").unwrap().means(&client, 7));
        assert!(
            kill("KILL 10.0.0.1:99").unwrap().means(&client, 7),
            "asked by name"
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_redis() {
        for (words, text) in [
            ("KILL ID 0", "ERR client-id should be greater than 0"),
            ("KILL ID abc", "ERR client-id should be greater than 0"),
            ("KILL TYPE foo", "ERR Unknown client type 'foo'"),
            ("KILL USER nope", "ERR No such user 'nope'"),
            ("KILL FOO bar", "ERR syntax error"),
            ("KILL SKIPME maybe", "ERR syntax error"),
            ("KILL ID 7 ADDR", "ERR syntax error"),
        ] {
            assert_eq!(kill(words), Err(text.to_owned()), "{words}");
        }
        let list = |words| parsed(words, List::parse).map_err(|failure| failure.0.into_owned());
        assert_eq!(list("LIST"), Ok(List::All));
        assert_eq!(list("LIST ID 3 1"), Ok(List::Ids(vec![3, 1])));
        assert_eq!(list("LIST TYPE pubsub"), Ok(List::Kind(Kind::Absent)));
        for (words, text) in [
            ("LIST TYPE foo", "ERR Unknown client type 'foo'"),
            ("LIST ID a", "ERR Invalid client ID"),
            ("LIST foo", "ERR syntax error"),
            ("LIST TYPE", "ERR syntax error"),
            ("LIST ID", "ERR syntax error"),
        ] {
            assert_eq!(list(words), Err(text.to_owned()), "{words}");
        }
    }
}
