//! One client as a line of `CLIENT LIST`, in the form of Redis 7.0 with what later versions and this server append.
//!
//! What Redis counts and this server does not (descriptors, private buffers) is shown as what a client without it has:
//! tools look the names up. `qbuf` is the start of a command whose end has not come, `omem` what waits to be read,
//! `tot-mem` what is held for the client.

use std::fmt::Write as _;

use super::facts::Client;
use crate::command::table;
use crate::resp::Protocol;

/// The line, without its end. `command` replaces the last command where the client is the one that asks.
pub fn line(client: &Client, command: Option<&str>, now_ms: u64) -> String {
    let seconds = |since_ms: u64| now_ms.saturating_sub(since_ms) / 1000;
    let names = client.names().clone();
    let last = client
        .command()
        .and_then(|place| table::ALL.get(usize::from(place)))
        .map_or("NULL", |spec| spec.name);
    let mut line = format!(
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={}",
        client.id,
        client.address,
        client.local_address,
        String::from_utf8_lossy(&names.name),
        seconds(client.since_ms),
        seconds(client.active_ms()),
        flags(client),
    );
    let queued = client.queued().map_or(-1, i64::from);
    let waiting = client.waiting_bytes();
    let wrote = write!(
        line,
        " db=0 sub=0 psub=0 ssub=0 multi={queued} qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
         oll={} omem={waiting} tot-mem={} events={} cmd={} user={} redir=-1 resp={} lib-name={} lib-ver={} \
         tot-net-in={} core={}",
        client.input_bytes(),
        u8::from(waiting > 0),
        client.held_bytes(),
        if waiting > 0 { "w" } else { "r" },
        command.unwrap_or(last),
        names.user,
        if client.protocol() == Protocol::Resp2 {
            2
        } else {
            3
        },
        String::from_utf8_lossy(&names.library_name),
        String::from_utf8_lossy(&names.library_version),
        client.received_bytes(),
        client.core,
    );
    wrote.expect("writing to a string does not fail");
    line
}

/// The letters of Redis: `x` in a transaction, `A` to be closed, `e` spared by the memory limit, `T` leaves no trace; `N`
/// for none of them.
fn flags(client: &Client) -> String {
    let letters = [
        (client.queued().is_some(), 'x'),
        (client.doomed().is_some(), 'A'),
        (client.no_evict(), 'e'),
        (client.no_touch(), 'T'),
    ];
    let set: String = letters
        .iter()
        .filter_map(|&(set, letter)| set.then_some(letter))
        .collect();
    if set.is_empty() { "N".to_owned() } else { set }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Arrival;

    #[test]
    fn a_line_has_the_fields_of_redis_in_its_order() {
        let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let arrival = Arrival {
            address: at(5000),
            local_address: at(7379),
            core: 1,
            now_ms: 1000,
            own_core: false,
        };
        let client = Client::new(7, arrival);
        client.names().name = b"me".to_vec();
        client.received(20, 3000);
        assert_eq!(
            line(&client, Some("client|list"), 61_999),
            "id=7 addr=127.0.0.1:5000 laddr=127.0.0.1:7379 fd=-1 name=me age=60 idle=58 flags=N db=0 sub=0 psub=0 \
             ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 \
             events=r cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver= tot-net-in=20 core=1"
        );
        client.set_queued(Some(3));
        client.set_no_evict(true);
        client.set_protocol(Protocol::Resp3);
        let place = table::ALL.iter().position(|spec| spec.name == "get");
        client.set_command(u16::try_from(place.unwrap()).unwrap());
        let text = line(&client, None, 0);
        for part in [
            " flags=xe ",
            " multi=3 ",
            " cmd=get ",
            " resp=3 ",
            " age=0 idle=0 ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
