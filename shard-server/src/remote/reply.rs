//! A server's answer as plain data, in the order in which it was sent, whichever protocol it came by.
//!
//! RESP2 has fewer types than RESP3 and all of them are RESP3's too, so that one decoder reads both.

use redis::{ServerError, Value};

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A short word of the server's own, such as `OK`.
    Status(Vec<u8>),
    /// Why it was not done, its code first.
    Error(Vec<u8>),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction (RESP3).
    Double(f64),
    /// Yes or no (RESP3).
    Boolean(bool),
    /// A whole number beyond 64 bits, in digits (RESP3).
    BigNumber(Vec<u8>),
    /// Any bytes.
    Bulk(Vec<u8>),
    /// Text for people, to be shown as it is (RESP3).
    Verbatim(Vec<u8>),
    /// Answers in order.
    Array(Vec<Reply>),
    /// Keys and values in order (RESP3).
    Map(Vec<(Reply, Reply)>),
    /// Answers without order or repetition, as sent (RESP3).
    Set(Vec<Reply>),
    /// What the server sends unasked (RESP3).
    Push(Vec<Reply>),
}

impl Reply {
    /// Whether it is an error, or holds one at its top level, as the answer to `EXEC` may.
    pub fn failed(&self) -> bool {
        match self {
            Self::Error(_) => true,
            Self::Array(items) => items.iter().any(|item| matches!(item, Self::Error(_))),
            _ => false,
        }
    }

    /// Its bytes, where it is text of any kind.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Status(text) | Self::Bulk(text) | Self::Verbatim(text) => Some(text),
            _ => None,
        }
    }
}

/// What the library read.
impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        let all = |values: Vec<Value>| values.into_iter().map(Self::from).collect();
        match value {
            Value::Nil => Self::Nil,
            Value::Okay => Self::Status(b"OK".to_vec()),
            Value::SimpleString(text) => Self::Status(text.into_bytes()),
            Value::ServerError(error) => Self::Error(words(&error)),
            Value::Int(number) => Self::Integer(number),
            Value::Double(number) => Self::Double(number),
            Value::Boolean(yes) => Self::Boolean(yes),
            Value::BigNumber(digits) => Self::BigNumber(digits),
            Value::BulkString(bytes) => Self::Bulk(bytes),
            Value::VerbatimString { text, .. } => Self::Verbatim(text.into_bytes()),
            Value::Array(values) => Self::Array(all(values)),
            Value::Set(values) => Self::Set(all(values)),
            Value::Map(pairs) => Self::Map(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.into(), value.into()))
                    .collect(),
            ),
            Value::Attribute { data, .. } => Self::from(*data),
            Value::Push { kind, data } => Self::Push(
                [Self::Bulk(kind.to_string().into_bytes())]
                    .into_iter()
                    .chain(data.into_iter().map(Self::from))
                    .collect(),
            ),
            // The library may learn of more types; a server of today sends none.
            _ => Self::Nil,
        }
    }
}

/// An error as it was sent: the library takes its first word off.
fn words(error: &ServerError) -> Vec<u8> {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()).into_bytes(),
        None => error.code().as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Reply {
        redis::parse_redis_value(bytes).unwrap().into()
    }

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn one_decoder_reads_both_protocols() {
        let cases = [
            ("+OK\r\n", Reply::Status(b"OK".to_vec())),
            ("-ERR no\r\n", Reply::Error(b"ERR no".to_vec())),
            (":-7\r\n", Reply::Integer(-7)),
            ("$-1\r\n", Reply::Nil),
            ("*-1\r\n", Reply::Nil),
            ("_\r\n", Reply::Nil),
            ("$0\r\n\r\n", bulk("")),
            ("$4\r\na\r\nb\r\n", bulk("a\r\nb")),
            ("*0\r\n", Reply::Array(vec![])),
            (
                "*2\r\n$1\r\na\r\n:1\r\n",
                Reply::Array(vec![bulk("a"), Reply::Integer(1)]),
            ),
            ("#t\r\n", Reply::Boolean(true)),
            (",1.5\r\n", Reply::Double(1.5)),
            ("=5\r\ntxt:a\r\n", Reply::Verbatim(b"a".to_vec())),
            ("(123\r\n", Reply::BigNumber(b"123".to_vec())),
            (">1\r\n$1\r\na\r\n", Reply::Push(vec![bulk("a")])),
        ];
        for (bytes, expected) in cases {
            assert_eq!(whole(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn maps_and_sets_keep_the_order_in_which_they_were_sent() {
        let bytes = "%3\r\n$1\r\nc\r\n:1\r\n$1\r\na\r\n:2\r\n$1\r\nb\r\n*1\r\n:3\r\n";
        let Reply::Map(pairs) = whole(bytes.as_bytes()) else {
            panic!("a map")
        };
        let keys: Vec<_> = pairs.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys, [bulk("c"), bulk("a"), bulk("b")]);
        assert_eq!(
            whole(b"~3\r\n:3\r\n:1\r\n:2\r\n"),
            Reply::Set(vec![Reply::Integer(3), Reply::Integer(1), Reply::Integer(2)])
        );
    }

    #[test]
    fn an_error_reads_as_it_was_sent() {
        for text in [
            "ERR no",
            "ERR",
            "WRONGPASS a b",
            "CROSSSLOT x",
            "MOVED 1 a:1",
            "EXECABORT x y",
            "OOM",
        ] {
            assert_eq!(
                whole(format!("-{text}\r\n").as_bytes()),
                Reply::Error(text.as_bytes().to_vec())
            );
        }
    }

    #[test]
    fn an_error_inside_an_answer_to_exec_counts() {
        assert!(whole(b"*2\r\n+OK\r\n-ERR no\r\n").failed());
        assert!(!whole(b"*1\r\n+OK\r\n").failed());
    }
}
