//! Clients that mean harm, or are not clients of this protocol at all.

use proptest::prelude::*;

use crate::testing::{answers, command};

#[test]
fn a_browser_is_shown_the_door_before_its_body_is_read() {
    let post = b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET a 1\r\n".to_vec();
    assert_eq!(answers([post]), b"");
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nSET a 1\r\n".to_vec();
    assert_eq!(
        answers([get]),
        b"-ERR wrong number of arguments for 'get' command\r\n"
    );
}

#[test]
fn what_came_before_broken_bytes_is_answered_and_nothing_after() {
    let input = b"SET a 1\r\nGET a\r\n*1\r\n!oops\r\nPING\r\n".to_vec();
    assert_eq!(
        String::from_utf8(answers([input])).unwrap(),
        "+OK\r\n$1\r\n1\r\n-ERR Protocol error: expected '$', got '!'\r\n"
    );
    let unbalanced = b"ECHO \"a\r\nPING\r\n".to_vec();
    assert_eq!(
        answers([unbalanced]),
        b"-ERR Protocol error: unbalanced quotes in request\r\n"
    );
}

#[test]
fn nested_arrays_are_refused_at_the_first_level() {
    assert_eq!(
        String::from_utf8(answers([b"*1\r\n".repeat(100_000)])).unwrap(),
        "-ERR Protocol error: expected '$', got '*'\r\n"
    );
}

#[test]
fn an_error_answer_is_one_line_whatever_the_client_wrote() {
    let heard = answers([command(&[b"a\r\n+OK", b"b\r\n-x", b"\xff\0"])]);
    assert_eq!(
        heard.iter().filter(|&&byte| byte == b'\n').count(),
        1,
        "{}",
        heard.escape_ascii()
    );
    assert!(heard.starts_with(b"-ERR unknown command 'a  +OK'") && heard.ends_with(b"\r\n"));
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_never_hang(
        pieces in proptest::collection::vec(
            proptest::collection::vec(
                prop_oneof![
                    Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'3'), Just(b' '),
                    Just(b'G'), Just(b'E'), Just(b'T'), any::<u8>(),
                ],
                1..60,
            ),
            0..6,
        ),
    ) {
        answers(pieces);
    }

    #[test]
    fn random_arguments_never_panic(
        name in proptest::sample::select(crate::command::table::ALL.as_slice()),
        arguments in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..12),
                Just(b"0".to_vec()), Just(b"-1".to_vec()), Just(b"9223372036854775807".to_vec()),
                Just(b"MATCH".to_vec()), Just(b"COUNT".to_vec()), Just(b"LIMIT".to_vec()), Just(b"GET".to_vec()),
                Just(b"*".to_vec()), Just(b"[".to_vec()), Just(b"NX".to_vec()), Just(b"INFO".to_vec()),
                Just(b"EX".to_vec()), Just(b"PXAT".to_vec()), Just(b"KEEPTTL".to_vec()), Just(b"REPLACE".to_vec()),
                Just(b"BIT".to_vec()), Just(b"a".to_vec()), Just(b"-9223372036854775808".to_vec()),
                Just(b"536870911".to_vec()), Just(b"1e4932".to_vec()),
            ],
            0..6,
        ),
        in_transaction: bool,
    ) {
        let words: Vec<&[u8]> =
            std::iter::once(name.name.as_bytes()).chain(arguments.iter().map(Vec::as_slice)).collect();
        let mut lines = vec![command(&words), command(&[b"PING"])];
        if in_transaction {
            lines.insert(0, command(&[b"MULTI"]));
            lines.push(command(&[b"EXEC"]));
        }
        answers(lines);
    }
}
