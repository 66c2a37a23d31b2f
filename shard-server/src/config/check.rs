//! What contradicts what in a configuration whose values are each in their range.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Loaded;

/// How the text of a hashed secret begins.
const HASH_PREFIX: &str = "$argon2id$";

/// Everything that is wrong with the whole, each in a sentence with the places concerned.
pub fn problems(loaded: &Loaded) -> Vec<String> {
    let mut found = Vec::new();
    addresses(loaded, &mut found);
    certificates(loaded, &mut found);
    users(loaded, &mut found);
    let limits = &loaded.config.limits;
    if limits.output_soft_bytes > limits.output_hard_bytes {
        found.push(format!(
            "{}: limits.output_soft_bytes = {} is more than limits.output_hard_bytes = {}",
            loaded.place("limits.output_soft_bytes"),
            limits.output_soft_bytes,
            limits.output_hard_bytes
        ));
    }
    found
}

fn addresses(loaded: &Loaded, found: &mut Vec<String>) {
    let config = &loaded.config;
    if let Err(why) = config.server.core_list() {
        found.push(format!("{}: server.cores: {why}", loaded.place("server.cores")));
    }
    let open = config.users.is_empty() && config.server.protected_mode;
    let mut listening = vec![("server.bind", config.server.bind)];
    if config.admin.enabled {
        listening.push(("admin.bind", config.admin.bind));
    }
    for (name, bind) in listening {
        if open && !bind.is_loopback() {
            found.push(unprotected(&loaded.place(name).to_string(), name, bind));
        }
    }
    let ports = [
        ("server.port", config.server.port),
        ("tls.port", config.tls.port),
        ("admin.port", config.admin.port.unwrap_or(0)),
    ];
    for (at, (name, port)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports[..at].iter().find(|(_, other)| *port != 0 && other == port) {
            found.push(format!("{}: {name} = {port} is {other}, too", loaded.place(name)));
        }
    }
}

fn unprotected(place: &str, name: &str, bind: IpAddr) -> String {
    format!(
        "{place}: {name} = {bind}: there are no users, so that anyone who reaches this address could read and change all \
         data without authentication; add [[users]] to the configuration file (`corelane user hash` makes their secrets), \
         or bind to 127.0.0.1 (or ::1) and reach it through an SSH tunnel, or, where the network itself keeps others out, \
         set server.protected_mode = false"
    )
}

fn certificates(loaded: &Loaded, found: &mut Vec<String>) {
    let tls = &loaded.config.tls;
    let whole = tls.cert.is_some() && tls.key.is_some();
    if tls.cert.is_some() != tls.key.is_some() {
        let (there, missing) = if tls.cert.is_some() {
            ("tls.cert", "tls.key")
        } else {
            ("tls.key", "tls.cert")
        };
        found.push(format!(
            "{}: {there} is set and {missing} is not: they go together",
            loaded.place(there)
        ));
    }
    let wanting = [
        ("tls.port", tls.port != 0),
        ("tls.client_ca", tls.client_ca.is_some()),
        (
            "admin.tls",
            loaded.config.admin.enabled && loaded.config.admin.tls,
        ),
    ];
    for (name, _) in wanting.iter().filter(|(_, wanted)| *wanted && !whole) {
        found.push(format!(
            "{}: {name} needs a certificate: set tls.cert and tls.key",
            loaded.place(name)
        ));
    }
}

fn users(loaded: &Loaded, found: &mut Vec<String>) {
    let place = loaded.place("users");
    let mut names = BTreeSet::new();
    for user in &loaded.config.users {
        if user.name.is_empty() || user.name.contains(|c: char| c.is_whitespace() || c == ':') {
            found.push(format!(
                "{place}: users[].name = {:?}: it must not be empty, nor hold spaces or colons",
                user.name
            ));
        }
        if !names.insert(&user.name) {
            found.push(format!(
                "{place}: users[].name = {:?}: there are two of that name",
                user.name
            ));
        }
        if !user.secret_hash.starts_with(HASH_PREFIX) {
            found.push(format!(
                "{place}: users[].secret_hash of {:?}: it must be what `corelane user hash` prints, which begins with \
                 {HASH_PREFIX}",
                user.name
            ));
        }
    }
}
