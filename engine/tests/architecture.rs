//! The house keeps its shape: one direction of dependency, one seam to the machine, files of a readable length.
//!
//! Read from the sources as text: `crate::…` and `super::…` paths of every module, without comments and test code. A new
//! edge between modules is a decision: it is written into the table below, or the test fails.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks at files itself"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "this test reads the source tree, not a database"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may name, from the bottom up. Who stands later may name who stands earlier where it says so, never
/// the other way round.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("error", &[]),
    ("codec", &["types"]),
    ("io", &["types"]),
    ("merge", &["types"]),
    ("cache", &[]),
    ("memtable", &["types"]),
    ("wal", &["codec", "error", "io", "types"]),
    ("sstable", &["cache", "codec", "error", "io", "merge", "types"]),
    ("version", &["codec", "error", "io", "types"]),
    (
        "compaction",
        &["error", "io", "merge", "sstable", "types", "version"],
    ),
    (
        "shard",
        &[
            "cache",
            "codec",
            "compaction",
            "error",
            "io",
            "memtable",
            "merge",
            "sstable",
            "types",
            "version",
            "wal",
        ],
    ),
    // The interface names the runtimes, `io::glommio` and `io::uring`, to start executors: the one exception, checked
    // below.
    ("api", &["codec", "error", "io", "shard", "sstable", "types"]),
];

/// What the packages over the engine may use of it: the interface, the seam that a service runs on, and the words and
/// the batch encoding that requests are made of.
const OPEN_TO_OTHERS: &[&str] = &[
    "api",
    "io",
    "types",
    "error",
    "codec::batch",
    "Error",
    "ErrorKind",
    "Result",
];

/// Longest file without its tests, in lines.
const MAX_LINES: usize = 800;

/// Half of the files are no longer than this, in lines without tests.
const MEDIAN_LINES: usize = 200;

struct Source {
    path: PathBuf,
    /// Path below `src`, with `/`.
    name: String,
    text: String,
    /// The text without comments and test code.
    code: String,
}

fn package(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(name)
        .join("src")
}

fn sources(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                let code = without_tests(&text);
                found.push(Source {
                    path,
                    name,
                    text,
                    code,
                });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!found.is_empty(), "no sources in {}", root.display());
    found
}

/// Whether a whole file is test code.
fn is_test_file(name: &str) -> bool {
    let stem = name.trim_end_matches(".rs");
    name.contains("tests/") || name.contains("conformance/") || stem.ends_with("tests")
}

/// The code of a file: comments gone, and what `#[cfg(test)]` stands before, up to its closing brace or semicolon.
fn without_tests(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        if trimmed == "#[cfg(test)]" {
            let indent = line.len() - trimmed.len();
            for inner in lines.by_ref() {
                let body = inner.trim_start();
                let at_end =
                    inner.len() - body.len() == indent && (body.starts_with('}') || body.ends_with(';'));
                if at_end {
                    break;
                }
            }
        } else if !trimmed.starts_with("//") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Every path of the code that starts with `root::`, as far as it is written in one piece: `root::a::b`; the heads of
/// `root::{a, b}` one by one.
fn paths(code: &str, root: &str) -> Vec<String> {
    let prefix = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let list = &list[..matching_brace(list)];
            found.extend(heads(list));
        } else {
            found.push(one_path(rest));
        }
    }
    found
}

fn matching_brace(list: &str) -> usize {
    let mut depth = 1;
    for (at, c) in list.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at;
        }
    }
    list.len()
}

/// The items of a use list on its outer level.
fn heads(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = vec![String::new()];
    for c in list.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            heads.push(String::new());
        } else {
            heads.last_mut().unwrap().push(c);
        }
    }
    heads
        .iter()
        .map(|head| one_path(head.trim()))
        .filter(|path| !path.is_empty())
        .collect()
}

fn one_path(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    text[..end.unwrap_or(text.len())].trim_matches(':').to_owned()
}

fn module_of(name: &str) -> &str {
    name.split(['/', '.']).next().unwrap()
}

#[test]
fn dependencies_between_modules_have_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    let mut edges = 0;
    for source in sources(&package("engine")) {
        let module = module_of(&source.name);
        if module == "lib" || is_test_file(&source.name) {
            continue;
        }
        let may_name = allowed
            .get(module)
            .unwrap_or_else(|| panic!("{module} is not in the table"));
        for path in paths(&source.code, "crate") {
            let target = path.split("::").next().unwrap();
            if target == module {
                continue;
            }
            edges += 1;
            assert!(
                may_name.contains(&target),
                "{}: {module} names crate::{path}",
                source.name
            );
        }
    }
    assert!(edges > 100, "the sources were read: {edges} edges");
}

#[test]
fn the_table_itself_has_one_direction() {
    let mut below: Vec<&str> = Vec::new();
    for (module, may_name) in MAY_NAME {
        for target in *may_name {
            assert!(
                below.contains(target),
                "{module} names {target}, which does not stand below it"
            );
        }
        below.push(module);
    }
    let modules: Vec<_> = sources(&package("engine"))
        .iter()
        .map(|s| module_of(&s.name).to_owned())
        .collect();
    for (module, _) in MAY_NAME {
        assert!(
            modules.iter().any(|found| found == module),
            "there is no module {module}"
        );
    }
}

/// `super` reaches the crate's root from a module's own root: such a path would escape the table.
#[test]
fn no_module_climbs_over_its_own_root() {
    for source in sources(&package("engine")) {
        if source.name == "lib.rs" || is_test_file(&source.name) {
            continue;
        }
        let depth = source
            .name
            .trim_end_matches("mod.rs")
            .trim_end_matches(".rs")
            .trim_end_matches('/');
        let climbs = "super::".repeat(depth.split('/').count());
        assert!(
            !source.code.contains(&climbs),
            "{} names the crate's root by super",
            source.name
        );
    }
}

#[test]
fn only_one_runtime_module_names_glommio() {
    for source in sources(&package("engine")) {
        if source.name.starts_with("io/glommio/") {
            continue;
        }
        for (at, _) in source.code.match_indices("glommio::") {
            let before = &source.code[..at];
            let inside = source.name.starts_with("io/") && before.ends_with("super::");
            assert!(
                inside || (before.ends_with("io::") && module_of(&source.name) == "api"),
                "{} names glommio",
                source.name
            );
        }
    }
    for package_name in ["shard-server", "bench"] {
        for source in sources(&package(package_name)) {
            for (at, _) in source.code.match_indices("glommio::") {
                assert!(
                    source.code[..at].ends_with("corelane::io::"),
                    "{package_name}/{} names glommio",
                    source.name
                );
            }
        }
    }
}

/// The rings are named by the runtime on them alone, and by the check of the machine that asks whether one can be made.
#[test]
fn only_one_runtime_module_names_io_uring() {
    for name in ["engine", "shard-server"] {
        for source in sources(&package(name)) {
            let may =
                name == "engine" && (source.name.starts_with("io/uring/") || source.name == "io/checks.rs");
            assert!(
                may || !source.code.contains("io_uring::"),
                "{name}/{} names io_uring",
                source.name
            );
        }
    }
}

/// What a wrong byte of theirs can do, no test finds: below the seam these few are unsafe, and no others.
#[test]
fn unsafe_code_of_the_seam_is_in_few_files() {
    let mut found: Vec<String> = sources(&package("engine"))
        .into_iter()
        .filter(|source| source.name.starts_with("io/") && source.code.contains("unsafe {"))
        .map(|source| source.name)
        .collect();
    found.sort();
    let expected =
        ["buffers", "in_flight", "memory", "msg_ring", "ring"].map(|name| format!("io/uring/{name}.rs"));
    assert_eq!(found, expected);
}

#[test]
fn only_the_seam_touches_files_sockets_threads_and_clocks() {
    let machine = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::os",
        "Instant",
        "SystemTime",
    ];
    for source in sources(&package("engine")) {
        if source.name.starts_with("io/") || is_test_file(&source.name) {
            continue;
        }
        for name in machine {
            assert!(!source.code.contains(name), "{} names {name}", source.name);
        }
    }
}

#[test]
fn server_and_bench_use_the_engine_by_its_public_interface() {
    for package_name in ["shard-server", "bench"] {
        for source in sources(&package(package_name)) {
            for path in paths(&source.code, "corelane") {
                let open = OPEN_TO_OTHERS
                    .iter()
                    .any(|open| path == *open || path.starts_with(&format!("{open}::")));
                assert!(open, "{package_name}/{} uses corelane::{path}", source.name);
            }
        }
    }
}

#[test]
fn every_file_opens_by_saying_what_it_is_for_and_is_short_enough_to_read() {
    let mut lengths = Vec::new();
    for name in ["engine", "shard-server", "bench"] {
        for source in sources(&package(name)) {
            assert!(
                source.text.starts_with("//!"),
                "{} does not open with //!",
                source.path.display()
            );
            let lines = match source.text.find("\n#[cfg(test)]\nmod ") {
                Some(tests) => source.text[..tests].lines().count(),
                None => source.text.lines().count(),
            };
            assert!(lines <= MAX_LINES, "{} has {lines} lines", source.path.display());
            if !is_test_file(&source.name) {
                lengths.push(lines);
            }
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= MEDIAN_LINES, "the median file has {median} lines");
}

#[test]
fn the_reader_of_sources_sees_what_it_should() {
    let text = "use crate::io::{File, Io};\n// crate::comment\nuse crate::{error, types::{A, B}};\n#[cfg(test)]\nmod \
                tests {\n    use crate::api::Db;\n}\nfn f() { crate::wal::recover(); other_crate::x(); }\n";
    let code = without_tests(text);
    assert_eq!(paths(&code, "crate"), ["io", "error", "types", "wal::recover"]);
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests;\nb\n"), "a\nb\n");
}
