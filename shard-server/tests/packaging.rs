//! What is packaged with the server names only flags, keys and calls that exist: the unit, the image, the Kubernetes
//! example and the configuration would otherwise rot unseen, because nothing here runs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use corelane_server::config::{Loaded, keys};
use corelane_server::options::Cli;

/// A hash as `corelane user hash` prints it, for the places where the example wants one.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).expect("it is packaged")
}

/// The command line must be one that the binary takes.
fn takes(words: &[&str], place: &str) {
    let name = words.first().copied().unwrap_or_default();
    assert!(name.ends_with("corelane"), "{place}: {name:?} is not the binary");
    if let Err(error) = Cli::try_parse_from(words) {
        panic!("{place}: {words:?}: {error}");
    }
}

/// A configuration file must be one that the server would load.
fn loads(toml: &str, place: &str) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(file.path(), toml).expect("room for it");
    if let Err(why) = Loaded::load(Some(file.path()), std::iter::empty(), Vec::new()) {
        panic!("{place}: {why}");
    }
}

/// The JSON arrays of texts behind `label` in a file, each on its line.
fn arrays(text: &str, label: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines
        .filter_map(|line| {
            let (_, rest) = line.split_once(label)?;
            let (start, end) = (rest.find('[')?, rest.find(']')? + 1);
            serde_json::from_str(&rest[start..end]).ok()
        })
        .collect()
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Variables in a text that would set a key.
fn variables(text: &str) -> impl Iterator<Item = String> {
    text.split(|sign: char| !(sign.is_ascii_uppercase() || sign.is_ascii_digit() || sign == '_'))
        .filter_map(|word| word.strip_prefix("CORELANE_"))
        .filter(|key| key.contains("__"))
        .map(|key| key.to_ascii_lowercase().replace("__", "."))
}

#[test]
fn the_unit_starts_the_server_by_flags_that_exist() {
    let unit = text("corelane.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart="));
    let start = start.expect("the unit starts something");
    takes(&start.split(' ').collect::<Vec<_>>(), "ExecStart");
    for line in ["Type=notify", "LimitMEMLOCK=infinity", "NoNewPrivileges=yes"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    // The filter is a list of what is allowed, and io_uring is on it.
    let allowed: Vec<_> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
        .flat_map(|line| line.split(' '))
        .collect();
    for call in RINGS {
        assert!(allowed.contains(&call), "{call}");
    }
    assert!(allowed.iter().all(|call| !call.starts_with('~')));
}

#[test]
fn systemd_understands_the_unit() {
    let Ok(output) = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(path("corelane.service"))
        .output()
    else {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The binary is not installed where the test runs; everything else that it finds in this unit is an error.
    let wrong: Vec<_> = said
        .lines()
        .filter(|line| line.contains("corelane.service") && !line.contains("is not executable"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_image_starts_and_asks_the_server_by_flags_that_exist() {
    let image = text("Dockerfile");
    let entry = arrays(&image, "ENTRYPOINT");
    let [entry] = entry.as_slice() else {
        panic!("one entry point: {entry:?}")
    };
    let health = arrays(&image, "HEALTHCHECK");
    assert_eq!(health.len(), 1);
    takes(&words(&health[0]), "HEALTHCHECK");
    let commands: Vec<_> = image
        .lines()
        .filter(|line| line.starts_with("CMD"))
        .flat_map(|line| arrays(line, "CMD"))
        .collect();
    assert_eq!(commands.len(), 1);
    takes(&words(&[entry.clone(), commands[0].clone()].concat()), "CMD");
    let user = image
        .lines()
        .filter_map(|line| line.strip_prefix("USER "))
        .next_back();
    assert!(
        user.is_some_and(|user| !user.starts_with('0') && user != "root"),
        "{user:?}"
    );
    let toolchain =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../rust-toolchain.toml"));
    let channel = toolchain.expect("the workspace has one");
    let channel = channel.lines().find_map(|line| line.strip_prefix("channel = "));
    let channel = channel.expect("it names its channel").trim_matches('"');
    assert!(
        image.contains(&format!("rust:{channel}-")),
        "another toolchain than {channel}"
    );
}

#[test]
fn the_kubernetes_example_names_flags_and_keys_that_exist() {
    let example = text("kubernetes.yaml");
    let arguments = arrays(&example, "args:");
    assert_eq!(arguments.len(), 1);
    takes(&[&["corelane"], words(&arguments[0]).as_slice()].concat(), "args");
    let probes = arrays(&example, "command:");
    assert_eq!(probes.len(), 3, "startup, liveness, readiness");
    for probe in &probes {
        takes(&words(probe), "probe");
    }
    let (_, config) = example
        .split_once("config.toml: |\n")
        .expect("it has a configuration");
    let (config, _) = config.split_once("---").expect("another object follows");
    loads(&config.replace("REPLACE", HASH), "kubernetes.yaml");
}

#[test]
fn the_example_configuration_is_one_that_the_server_takes() {
    loads(&text("config.toml"), "config.toml");
}

#[test]
fn variables_are_keys_that_exist() {
    for name in ["corelane.service", "Dockerfile", "kubernetes.yaml"] {
        for key in variables(&text(name)) {
            assert!(keys::find(&key).is_some(), "{name}: {key}");
        }
    }
    assert_eq!(
        variables("ENV CORELANE_SERVER__PORT=1").collect::<Vec<_>>(),
        ["server.port"]
    );
}

/// The calls of io_uring.
const RINGS: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

/// By which the threads that check passwords give way to the shards' (`auth/give_way.rs`).
const GIVES_WAY: [&str; 3] = ["sched_getattr", "sched_setattr", "setpriority"];

#[test]
fn the_seccomp_profile_is_a_list_of_what_is_allowed_and_io_uring_is_on_it() {
    let profile: serde_json::Value = serde_json::from_str(&text("seccomp.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut allowed: Vec<&str> = Vec::new();
    for rule in profile["syscalls"].as_array().expect("rules") {
        assert_eq!(rule["action"], "SCMP_ACT_ALLOW");
        assert!(rule["comment"].as_str().is_some_and(|why| !why.is_empty()));
        let names = rule["names"].as_array().expect("names");
        allowed.extend(names.iter().filter_map(|name| name.as_str()));
    }
    for call in RINGS.iter().chain(&GIVES_WAY) {
        assert!(allowed.contains(call), "{call}");
    }
    for call in [
        "mount",
        "ptrace",
        "bpf",
        "init_module",
        "unshare",
        "keyctl",
        "perf_event_open",
    ] {
        assert!(!allowed.contains(&call), "{call}");
    }
    let count = allowed.len();
    allowed.sort_unstable();
    allowed.dedup();
    assert_eq!(allowed.len(), count, "each once");
}
