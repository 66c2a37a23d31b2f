//! The HTML report in a real browser: it renders without a word on the console, and every number in the page equals the
//! stored run's. Chromium dumps the page after its script has run; the numbers are read from there and compared with ones
//! computed here from the run's JSON, not with what the report was given.
//!
//! Skipped, and said so, where Chromium is not installed; an error instead where `CORELANE_REQUIRE_CHROMIUM` is set. The
//! pages stay in cargo's directory for tests' files, for looking at.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of the bench, which has its own files"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use corelane_bench::report;
use corelane_bench::result::Run;
use serde_json::Value;

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The browser, or `None` where there is none and none is required.
fn browser() -> Option<&'static str> {
    let there = |program: &&str| {
        Command::new(program)
            .arg("--version")
            .output()
            .is_ok_and(|out| out.status.success())
    };
    let found = PROGRAMS.into_iter().find(there);
    if found.is_none() {
        assert!(
            std::env::var_os("CORELANE_REQUIRE_CHROMIUM").is_none(),
            "Chromium is required and not installed"
        );
        eprintln!("skipped: Chromium is not installed");
    }
    found
}

/// What the browser made of a page: its elements after the scripts have run, and what it said on its console.
struct Dumped {
    page: String,
    console: Vec<String>,
}

fn dump(program: &str, page: &Path) -> Dumped {
    let profile = tempfile::tempdir().unwrap();
    // A browser that hangs is ended; it takes a second or two.
    let out = Command::new("timeout")
        .args([
            "-k",
            "5",
            "120",
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ])
        .args([
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args([
            "--enable-logging=stderr",
            "--v=0",
            "--dump-dom",
            "--virtual-time-budget=10000",
        ])
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    Dumped {
        page: String::from_utf8(out.stdout).unwrap(),
        console: said
            .lines()
            .filter(|line| line.contains("CONSOLE"))
            .map(str::to_owned)
            .collect(),
    }
}

fn fixture(name: &str) -> (Run, Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.json"));
    let json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    (Run::load(&path).unwrap(), json)
}

fn write(name: &str, runs: &[Run]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    report::write_html(runs, &path).unwrap();
    path
}

/// The value of an attribute in a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}

/// Every element that has this attribute, by its value: its number, `None` where it has none, and its text.
fn numbers(page: &str, by: &str) -> BTreeMap<String, (Option<f64>, String)> {
    let tags = page.split('<').filter_map(|tag| tag.split_once('>'));
    let mut found = BTreeMap::new();
    for (tag, text) in tags {
        let Some(key) = attribute(tag, by) else { continue };
        let value = attribute(tag, "data-value").map(|value| value.parse().unwrap());
        let before = found.insert(key.to_owned(), (value, text.to_owned()));
        assert!(before.is_none(), "{key} stands in the page twice");
    }
    found
}

/// What the page must say, computed from the stored JSON alone: each key's number, and the rows that must have none.
fn expected(run: &Value) -> (BTreeMap<String, f64>, Vec<String>) {
    let (mut wanted, mut invalid) = (BTreeMap::new(), Vec::new());
    for (e, engine) in list(&run["engines"]).iter().enumerate() {
        let repeats = list(&engine["repeats"]);
        for p in 0..list(&repeats[0]["phases"]).len() {
            let phases: Vec<&Value> = repeats.iter().map(|repeat| &repeat["phases"][p]).collect();
            let mut groups = phases.iter().flat_map(|phase| list(&phase["groups"]));
            let late = groups.any(|group| group["schedule"]["invalid"].is_string());
            for g in 0..list(&phases[0]["groups"]).len() {
                let id = format!("0.{e}.{p}.{g}");
                if late {
                    invalid.push(id);
                    continue;
                }
                let groups: Vec<&Value> = phases.iter().map(|phase| &phase["groups"][g]).collect();
                group_figures(&id, &groups, &mut wanted);
                if g == 0 {
                    let costs: Vec<&Value> = phases.iter().map(|phase| &phase["cost"]).collect();
                    cost_figures(&id, &costs, &mut wanted);
                }
            }
        }
    }
    (wanted, invalid)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn group_figures(id: &str, groups: &[&Value], wanted: &mut BTreeMap<String, f64>) {
    let mut rates: Vec<f64> = groups
        .iter()
        .map(|group| group["rate"].as_f64().unwrap())
        .collect();
    rates.sort_by(f64::total_cmp);
    let (below, above) = (rates[(rates.len() - 1) / 2], rates[rates.len() / 2]);
    wanted.insert(format!("{id}/rate"), f64::midpoint(below, above));
    if rates.len() > 1 {
        wanted.insert(format!("{id}/rate.min"), rates[0]);
        wanted.insert(format!("{id}/rate.max"), rates[rates.len() - 1]);
    }
    let operations: u64 = groups
        .iter()
        .map(|group| group["operations"].as_u64().unwrap())
        .sum();
    wanted.insert(format!("{id}/operations"), operations as f64);
}

fn cost_figures(id: &str, costs: &[&Value], wanted: &mut BTreeMap<String, f64>) {
    let peak = costs
        .iter()
        .map(|cost| cost["peak_bytes"].as_u64().unwrap())
        .max()
        .unwrap();
    wanted.insert(format!("{id}/cost.peak_mib"), peak as f64 / 1_048_576.0);
    if let [cost] = costs {
        let of = |name: &str| cost[name].as_f64().unwrap();
        wanted.insert(
            format!("{id}/cost.space_amp"),
            of("occupied_bytes") / of("live_bytes"),
        );
        wanted.insert(format!("{id}/cost.device_utilisation"), of("device_utilisation"));
    }
}

fn check_numbers(page: &str, json: &Value, run: &Run) {
    let cells = numbers(page, "data-key");
    let (wanted, invalid) = expected(json);
    assert!(wanted.len() > 20, "the fixture has figures");
    for (key, value) in &wanted {
        let (shown, _) = cells
            .get(key)
            .unwrap_or_else(|| panic!("{key} is not in the page"));
        assert_eq!(shown.unwrap(), *value, "{key}");
    }
    for id in invalid {
        for (key, (shown, text)) in cells.range(format!("{id}/")..format!("{id}0")) {
            let allowed = ["asked_rate", "device.rate", "device.drift"]
                .iter()
                .any(|field| key.ends_with(field));
            assert!(
                allowed || (shown.is_none() && text == "INVALID"),
                "{key} shows {shown:?} {text}"
            );
        }
    }
    // Percentiles of one repeat, from the stored histogram itself.
    for (e, engine) in run
        .engines
        .iter()
        .enumerate()
        .filter(|(_, engine)| engine.repeats.len() == 1)
    {
        let kinds = &engine.repeats[0].phases[0].groups[0].kinds;
        assert_eq!(kinds.len(), 1, "a load does one kind of operation");
        for (field, wanted) in [
            ("p50", kinds[0].response.percentile_ns(0.5)),
            ("p99", kinds[0].response.percentile_ns(0.99)),
            ("p9999", kinds[0].response.percentile_ns(0.9999)),
            ("max", kinds[0].response.max_ns()),
        ] {
            let (shown, text) = &cells[&format!("0.{e}.0.0/response.{field}")];
            assert_eq!(*shown, wanted.map(|ns| ns as f64), "{field}");
            assert!(
                wanted.is_some() || text == "–",
                "too few samples for {field}: {text}"
            );
        }
    }
    for (bar, (value, _)) in numbers(page, "data-bar") {
        assert_eq!(value, cells[&bar].0, "the bar of {bar} and its cell");
    }
}

#[test]
fn the_report_renders_without_a_word_and_its_numbers_are_the_stored_ones() {
    let Some(program) = browser() else { return };
    for name in ["sample", "sweep"] {
        let (run, json) = fixture(name);
        let dumped = dump(
            program,
            &write(&format!("report-{name}.html"), std::slice::from_ref(&run)),
        );
        assert_eq!(dumped.console, Vec::<String>::new());
        assert!(
            dumped.page.contains("data-state=\"drawn\""),
            "the script ran to its end"
        );
        assert!(dumped.page.matches("<canvas").count() >= 6, "charts are drawn");
        check_numbers(&dumped.page, &json, &run);
    }
}

#[test]
fn an_engine_named_like_a_script_does_not_run() {
    let Some(program) = browser() else { return };
    let (mut run, _) = fixture("sample");
    let evil =
        "</script><script>document.documentElement.dataset.ran = 1</script><img src=x onerror='throw 1'>";
    run.engines[0].engine = evil.to_owned();
    run.spec.name = evil.to_owned();
    run.environment.command = evil.to_owned();
    let dumped = dump(program, &write("report-evil.html", &[run]));
    assert_eq!(dumped.console, Vec::<String>::new());
    assert!(!dumped.page.contains("data-ran") && !dumped.page.contains("<img"));
    assert!(dumped.page.contains("data-state=\"drawn\"") && dumped.page.contains("&lt;img src=x"));
}

#[test]
fn every_button_and_every_table_opens_without_a_word() {
    let Some(program) = browser() else { return };
    let path = write("report-pressed.html", &[fixture("sample").0, fixture("sweep").0]);
    let page = std::fs::read_to_string(&path).unwrap();
    let press =
        "<script>const all = document.querySelectorAll('button, summary'); all.forEach((one) => one.click());
        document.documentElement.dataset.pressed = all.length;</script></body>";
    std::fs::write(&path, page.replace("</body>", press)).unwrap();
    let dumped = dump(program, &path);
    assert_eq!(dumped.console, Vec::<String>::new());
    let root = dumped
        .page
        .split('<')
        .find(|tag| tag.starts_with("html"))
        .unwrap();
    let pressed: usize = attribute(root, "data-pressed").unwrap().parse().unwrap();
    assert!(pressed > 30, "{pressed} pressed");
    assert!(dumped.page.matches("<details open").count() > 10);
    assert!(
        dumped.page.contains("<td>yes</td>"),
        "an opened table has its rows: windows with compactions"
    );
    assert_eq!(
        dumped.page.matches("class=\"bar\"").count(),
        dumped.page.matches("hidden=\"\"").count(),
        "all are off"
    );
}

#[test]
fn several_files_stand_beside_each_other() {
    let Some(program) = browser() else { return };
    let dumped = dump(
        program,
        &write("report-several.html", &[fixture("sample").0, fixture("sweep").0]),
    );
    assert_eq!(dumped.console, Vec::<String>::new());
    let cells = numbers(&dumped.page, "data-key");
    assert!(cells.contains_key("0.0.0.0/rate") && cells.contains_key("1.0.0.0/rate"));
    assert!(dumped.page.contains("corelane #2"));
}

/// Without this, a browser that says nothing where we listen would make the tests above pass whatever happens.
#[test]
fn a_page_that_fails_is_heard() {
    let Some(program) = browser() else { return };
    let (run, _) = fixture("sweep");
    let path = write("report-broken.html", &[run]);
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!(page.matches("id=\"report\"").count(), 1);
    std::fs::write(&path, page.replace("id=\"report\"", "id=\"gone\"")).unwrap();
    let dumped = dump(program, &path);
    assert!(
        dumped.console.iter().any(|line| line.contains("TypeError")),
        "{:?}",
        dumped.console
    );
    assert!(!dumped.page.contains("data-state=\"drawn\""));
}
