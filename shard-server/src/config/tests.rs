//! The layers together: who wins, what is refused, and how it is told.

use std::path::PathBuf;

use super::layers::Place;
use super::{Config, Loaded, Role, storage};
use crate::options::Cli;

/// A configuration of a file's text, environment variables and flags.
fn load(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    #[expect(clippy::disallowed_methods, reason = "a file of the test")]
    std::fs::write(&path, file).unwrap();
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Loaded::load(Some(&path), environment, Cli::serve_flags(flags)?.settings())
}

#[test]
fn each_layer_wins_over_those_below_it() {
    let file = "[server]\nport = 1\n[storage]\ncache_mib = 2\nmemtable_mib = 3\n";
    let environment = [
        ("CORELANE_SERVER__PORT", "4"),
        ("CORELANE_STORAGE__CACHE_MIB", "5"),
        ("HOME", "/"),
    ];
    let loaded = load(file, &environment, &["--port", "6"]).unwrap();
    let Config { server, storage, .. } = &loaded.config;
    assert_eq!((server.port, storage.cache_mib, storage.memtable_mib), (6, 5, 3));
    assert_eq!(loaded.config.limits, Config::default().limits);
    assert_eq!(loaded.place("server.port"), Place::Flag("--port"));
    assert_eq!(
        loaded.place("storage.cache_mib").to_string(),
        "environment CORELANE_STORAGE__CACHE_MIB"
    );
    assert!(
        loaded
            .place("storage.memtable_mib")
            .to_string()
            .ends_with("c.toml:5")
    );
    assert_eq!(loaded.place("limits.clients"), Place::Default);
}

#[test]
fn every_flag_of_before_sets_its_key() {
    let flags = [
        "--data-dir",
        "7",
        "--bind",
        "::1",
        "--port",
        "1",
        "--cores",
        "0-1",
        "--shards",
        "4",
        "--durability",
        "buffered",
        "--cache-mib",
        "2",
        "--memtable-mib",
        "3",
        "--max-clients",
        "5",
        "--log-level",
        "debug",
        "--no-admin",
    ];
    let config = load("", &[], &flags).unwrap().config;
    assert_eq!(config.server.address(), "[::1]:1".parse().unwrap());
    assert_eq!(config.server.core_list(), Ok(Some(vec![0, 1])));
    assert_eq!(config.storage.data_dir, PathBuf::from("7"));
    assert_eq!(config.storage.shards, Some(4));
    assert_eq!(config.storage.durability, storage::Durability::Buffered);
    assert_eq!(
        (config.storage.cache_bytes(), config.storage.memtable_bytes()),
        (2 << 20, 3 << 20)
    );
    assert_eq!(config.limits.clients, 5);
    assert!(!config.admin.enabled);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name_and_its_place() {
    let why = load("\n[server]\nprot = 1\n", &[], &[]).unwrap_err();
    assert!(
        why.contains("c.toml:3: unknown key server.prot; did you mean server.port?"),
        "{why}"
    );
    let why = load("", &[("CORELANE_SERVER__PROT", "1")], &[]).unwrap_err();
    assert!(
        why.contains("environment CORELANE_SERVER__PROT: ") && why.contains("server.port?"),
        "{why}"
    );
    let why = load("port = 1\n", &[], &[]).unwrap_err();
    assert!(why.contains("c.toml:1: unknown key port"), "{why}");
    let why = load("[[users]]\nnaem = \"a\"\n", &[], &[]).unwrap_err();
    assert!(
        why.contains("c.toml:2: ") && why.contains("users[].name?") && why.contains("without role"),
        "{why}"
    );
}

#[test]
fn a_bad_value_is_told_with_key_value_range_and_layer_and_all_of_them_at_once() {
    let file = "[server]\nport = 65536\n[storage]\ndurability = \"often\"\n";
    let why = load(
        file,
        &[("CORELANE_LOG__LINES", "many")],
        &["--cache-mib", "0", "--bind", "here"],
    )
    .unwrap_err();
    for part in [
        "c.toml:2: server.port = 65536: it must be a whole number from 0 to 65535",
        "c.toml:4: storage.durability = \"often\": it must be one of sync, buffered, none",
        "environment CORELANE_LOG__LINES: log.lines = \"many\": it must be a whole number",
        "flag --cache-mib: storage.cache_mib = 0: it must be a whole number from 1",
        "flag --bind: server.bind = \"here\": it must be an IP address",
    ] {
        assert!(why.contains(part), "{why:?} lacks {part:?}");
    }
    assert!(load("[server\n", &[], &[]).unwrap_err().contains("c.toml"));
}

#[test]
fn an_address_beyond_this_machine_needs_users_or_a_word() {
    let why = load("", &[], &["--bind", "0.0.0.0"]).unwrap_err();
    assert!(
        why.contains("without authentication") && why.contains("flag --bind"),
        "{why}"
    );
    let user = "[[users]]\nname = \"ops\"\nrole = \"admin\"\nsecret_hash = \"$argon2id$v=19$x\"\n";
    let loaded = load(user, &[], &["--bind", "0.0.0.0"]).unwrap();
    assert_eq!(loaded.config.users[0].role, Role::Admin);
    assert!(load("[server]\nprotected_mode = false\n", &[], &["--bind", "0.0.0.0"]).is_ok());
    let admin = "[admin]\nbind = \"::\"\n";
    assert!(load(admin, &[], &[]).unwrap_err().contains("admin.bind"));
    assert!(
        load(admin, &[], &["--no-admin"]).is_ok(),
        "what is off needs no protection"
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    let user = "[[users]]\nname = \"a b\"\nrole = \"read\"\nsecret_hash = \"secret\"\n";
    for (file, part) in [
        ("[tls]\ncert = \"a\"\n", "tls.key is not"),
        ("[tls]\nport = 5\n", "tls.port needs a certificate"),
        ("[admin]\ntls = true\n", "admin.tls needs a certificate"),
        ("[admin]\nport = 7379\n", "admin.port = 7379 is server.port"),
        ("[limits]\noutput_soft_bytes = 40000000\n", "output_hard_bytes"),
        ("[server]\ncores = \"3-1\"\n", "server.cores"),
        (user, "spaces"),
        (user, "corelane user hash"),
    ] {
        let why = load(file, &[], &[]).unwrap_err();
        assert!(why.contains(part), "{why:?} lacks {part:?}");
    }
    assert!(
        !load(user, &[], &[]).unwrap_err().contains("\"secret\""),
        "secrets are not told"
    );
}
