//! Each route's answers; together they produce every status that the OpenAPI page documents.

use serde_json::json;

use super::*;
use crate::admin::openapi::document;
use crate::admin::plane::Plane;
use crate::admin::routes::places;
use crate::telemetry::SlowEntry;

#[test]
fn every_route_is_documented_and_every_documented_route_is_there() {
    let document = serde_json::to_value(document()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let documented: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(move |method| (path.clone(), method.clone()))
        })
        .collect();
    let routed: BTreeSet<_> = places()
        .iter()
        .flat_map(|(path, methods, _)| {
            methods
                .iter()
                .map(|method| ((*path).to_owned(), (*method).to_owned()))
        })
        .collect();
    assert_eq!(documented, routed);
}

#[test]
fn every_documented_status_is_answered_and_no_other() {
    let house = House::with(
        Admin {
            body_bytes: 4096,
            ..Admin::default()
        },
        Box::new(NoUsers),
    );
    keys(&house);
    shapes(&house);
    refused_keys(&house);
    batches(&house);
    scans(&house);
    maintenance(&house);
    log_level(&house);
    probes(&house);
    closed(&house);
    let document = serde_json::to_value(document()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                documented.insert((method.clone(), path.clone(), status.parse::<u16>().unwrap()));
            }
        }
    }
    let seen = house.seen.lock().unwrap();
    let seen: BTreeSet<_> = seen
        .iter()
        .filter(|(method, ..)| method != "head")
        .cloned()
        .collect();
    assert_eq!(seen, documented);
}

/// The life of keys.
fn keys(house: &House) {
    let made = house.put("a", "1");
    assert_eq!((made.status, made.body.as_slice()), (201, b"".as_slice()));
    let tag = made.header("etag").to_owned();
    let read = house.get("/api/v1/kv/a");
    assert_eq!(
        (read.status, read.body.as_slice(), read.header("etag")),
        (200, b"1".as_slice(), tag.as_str())
    );
    assert_eq!(read.header("content-type"), "application/octet-stream");
    let head = house.call("HEAD", "/api/v1/kv/a", &[], "");
    assert_eq!(
        (head.status, head.body.len(), head.header("etag")),
        (200, 0, tag.as_str())
    );
    assert_eq!(
        house
            .call("GET", "/api/v1/kv/a", &[("if-none-match", &tag)], "")
            .status,
        304
    );

    assert_eq!(
        house
            .call("PUT", "/api/v1/kv/a", &[("if-none-match", "*")], "2")
            .status,
        412
    );
    let changed = house.call("PUT", "/api/v1/kv/a", &[("if-match", &tag)], "2");
    assert_eq!(changed.status, 204);
    let refused = house.call("PUT", "/api/v1/kv/a", &[("if-match", &tag)], "3");
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (412, "precondition-failed")
    );
    assert_eq!(
        house
            .call("GET", "/api/v1/kv/a", &[("if-match", &tag)], "")
            .status,
        412
    );
    assert_eq!(
        house
            .call("DELETE", "/api/v1/kv/a", &[("if-match", &tag)], "")
            .status,
        412
    );
    assert_eq!(
        house.get("/api/v1/kv/a").body,
        b"2",
        "what was refused changed nothing"
    );
    assert_eq!(
        house
            .call(
                "DELETE",
                "/api/v1/kv/a",
                &[("if-match", changed.header("etag"))],
                ""
            )
            .status,
        204
    );
    assert_eq!(
        house.call("DELETE", "/api/v1/kv/a", &[], "").problem(),
        "not-found"
    );
    assert_eq!(house.get("/api/v1/kv/a").status, 404);
}

/// Keys of any bytes, values of any shape, and their times to live.
fn shapes(house: &House) {
    for (key, bytes) in [("", b"".as_slice()), ("x/y%2Fz", b"x/y/z"), ("%ff%00", b"\xff\0")] {
        assert_eq!(house.put(key, key).status, 201, "{key}");
        assert_eq!(
            house.db.blocking().get(bytes).unwrap().as_deref(),
            Some(key.as_bytes())
        );
    }
    let described = json!({"value_base64": "/w==", "ttl_ms": 3_600_000});
    assert_eq!(house.json("PUT", "/api/v1/kv/b", &described).status, 201);
    let read = house.call("GET", "/api/v1/kv/b", &[("accept", "application/json")], "");
    let left: u64 = read.header("x-ttl-ms").parse().unwrap();
    assert!((3_000_000..=3_600_000).contains(&left), "{left}");
    assert_eq!(read.json()["value_base64"], "/w==");
    assert_eq!(
        house.call("PUT", "/api/v1/kv/b?ttl_ms=60000", &[], "x").status,
        204
    );
    assert!(!house.get("/api/v1/kv/b").header("x-ttl-ms").is_empty());
    assert_eq!(house.put("b", "x").status, 204);
    assert!(
        house.get("/api/v1/kv/b").header("x-ttl-ms").is_empty(),
        "a write without one keeps none"
    );
}

fn refused_keys(house: &House) {
    for (method, uri, headers, status) in [
        ("GET", "/api/v1/kv/%4", &[][..], 400),
        ("PUT", "/api/v1/kv/%4", &[], 400),
        ("DELETE", "/api/v1/kv/%zz", &[], 400),
        ("PUT", "/api/v1/kv/c", &[("if-match", "unquoted")], 400),
        ("PUT", "/api/v1/kv/c?ttl_ms=0", &[], 400),
        ("PUT", "/api/v1/kv/c?ttl_ms=1", &[("x-ttl-ms", "1")], 400),
        ("PUT", "/api/v1/kv/c?tll_ms=1", &[], 400),
        (
            "PUT",
            "/api/v1/kv/c",
            &[("content-type", "application/json")],
            400,
        ),
        (
            "PUT",
            "/api/v1/kv/c",
            &[("content-type", "multipart/form-data")],
            415,
        ),
    ] {
        let answer = house.call(method, uri, headers, "value");
        answer.problem();
        assert_eq!(answer.status, status, "{method} {uri} {headers:?}");
    }
    assert_eq!(house.put("c", &"x".repeat(4097)).problem(), "too-large");
    assert_eq!(house.put("c", &"x".repeat(4096)).status, 201);
}

fn batches(house: &House) {
    let batch = |operations: Value| house.json("POST", "/api/v1/batch", &json!({"operations": operations}));
    let done = batch(json!([
        {"op": "put", "key": "{t}1", "value": "one"},
        {"op": "put", "key": "{t}2", "value_base64": "Ag=="},
        {"op": "delete", "key": "{t}1"},
    ]));
    assert_eq!((done.status, done.json()), (200, json!({"applied": 3})));
    assert_eq!(
        house.get("/api/v1/kv/{t}1").status,
        404,
        "the last operation on a key wins"
    );
    assert_eq!(house.get("/api/v1/kv/{t}2").body, b"\x02");
    let spread: Vec<_> = (0..50)
        .map(|n| json!({"op": "put", "key": format!("spread{n}"), "value": ""}))
        .collect();
    let refused = batch(Value::from(spread));
    assert_eq!((refused.status, refused.problem().as_str()), (409, "cross-shard"));
    assert_eq!(
        house.get("/api/v1/kv/spread0").status,
        404,
        "nothing of it was written"
    );
    assert_eq!(batch(json!([{"op": "add"}])).status, 400);
    assert_eq!(
        batch(json!([{"op": "put", "key": "k", "value": "x".repeat(5000)}])).status,
        413
    );
    assert_eq!(
        house
            .call("POST", "/api/v1/batch", &[("content-type", "text/plain")], "{}")
            .status,
        415
    );
}

fn scans(house: &House) {
    let keys: Vec<String> = (0..25).map(|n| format!("s{n:02}")).collect();
    for key in &keys {
        assert_eq!(house.put(key, &format!("v{key}")).status, 201);
    }
    let walk = |query: &str| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        for _ in 0..20 {
            let page = house
                .get(&format!("/api/v1/scan?prefix=s&limit=7{query}{cursor}"))
                .json();
            let entries = page["entries"].as_array().unwrap();
            found.extend(
                entries
                    .iter()
                    .map(|entry| entry["key"].as_str().unwrap().to_owned()),
            );
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
        panic!("no end after 20 pages: {found:?}");
    };
    assert_eq!(walk(""), keys);
    let backwards: Vec<_> = keys.iter().rev().cloned().collect();
    assert_eq!(walk("&reverse"), backwards);
    let some = house.get("/api/v1/scan?start=s03&end=s05").json();
    assert_eq!(
        some["entries"],
        json!([{"key": "s03", "value": "vs03"}, {"key": "s04", "value": "vs04"}])
    );
    assert_eq!(
        house.get("/api/v1/scan?start=s03&end=s04&keys_only").json()["entries"],
        json!([{"key": "s03"}])
    );
    assert_eq!(
        house.get("/api/v1/scan?start=z&end=a").json()["entries"],
        json!([])
    );
    assert_eq!(
        house.get("/api/v1/scan?prefix=%ff").json()["entries"][0]["key_base64"],
        "/wA="
    );
    for bad in ["limit=0", "cursor=AAAA", "start=%", "what=1"] {
        let answer = house.get(&format!("/api/v1/scan?{bad}"));
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "bad-request"),
            "{bad}"
        );
    }
}

fn maintenance(house: &House) {
    assert_eq!(house.call("POST", "/api/v1/flush", &[], "").status, 204);
    let stats = house.get("/api/v1/stats").json();
    let shards = stats["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 2);
    let entries: u64 = shards
        .iter()
        .map(|shard| shard["table_entries"].as_u64().unwrap())
        .sum();
    assert!(entries >= 25, "{stats}");
    let running = Plane::begin_compaction(&house.plane).unwrap();
    assert_eq!(
        house.call("POST", "/api/v1/compact", &[], "").problem(),
        "compacting"
    );
    drop(running);
    assert_eq!(house.call("POST", "/api/v1/compact", &[], "").status, 202);
    assert_eq!(house.get("/api/v1/slowlog").json(), json!([]));
    assert_eq!(house.get("/api/v1/slowlog?limit=0").status, 400);
    house.plane.server.telemetry().slow().offer(SlowEntry {
        cause: "waiting for 1 read (12000 us)".to_owned(),
        ..SlowEntry::default()
    });
    let slow = house.get("/api/v1/slowlog").json();
    assert_eq!(slow[0]["cause"], "waiting for 1 read (12000 us)", "{slow}");
    assert_eq!(
        house.get("/api/v1/openapi.json").json()["info"]["title"],
        "Corelane admin plane"
    );
}

fn log_level(house: &House) {
    // No logs were started here: the level is told, and stays.
    let level = json!({"level": "info"});
    assert_eq!(house.get("/api/v1/log-level").json(), level);
    assert_eq!(house.json("PUT", "/api/v1/log-level", &level).json(), level);
    let unknown = house.json("PUT", "/api/v1/log-level", &json!({"level": "loud"}));
    assert!(unknown.problem() == "bad-request" && unknown.status == 400);
    assert_eq!(house.call("PUT", "/api/v1/log-level", &[], "debug").status, 415);
}

fn probes(house: &House) {
    assert_eq!(house.get("/livez").body, b"alive\n");
    assert_eq!(house.get("/readyz").body, b"ready\n");
    let health = house.get("/health");
    assert_eq!(health.status, 200);
    let names: Vec<_> = health.json()["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].clone())
        .collect();
    for name in [
        "disk space",
        "poisoned",
        "read-only",
        "memtable",
        "wal",
        "level 0",
        "backlog",
        "memlock",
    ] {
        assert!(names.contains(&json!(name)), "{name}");
    }
    let metrics = house.get("/metrics");
    assert!(
        metrics
            .header("content-type")
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("corelane_operations_total{shard=\"1\"} ") && text.ends_with("# EOF\n"));
    house.plane.set_ready(false);
    assert_eq!(house.get("/readyz").problem(), "not-ready");
    assert_eq!(house.get("/livez").status, 200, "what drains lives");
    house.plane.set_ready(true);
}

/// The database is gone: whoever asks is told so, and nothing hangs.
fn closed(house: &House) {
    house.db.blocking().close().unwrap();
    for (method, uri) in [("POST", "/api/v1/flush"), ("GET", "/api/v1/stats")] {
        let answer = house.call(method, uri, &[], "");
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (503, "closing"),
            "{uri}"
        );
        assert_eq!(answer.header("retry-after"), "1");
    }
    let health = house.get("/health");
    assert_eq!(
        (health.status, &health.json()["state"]),
        (503, &json!("unhealthy"))
    );
    assert_eq!(house.get("/metrics").status, 200, "what can be told is told");
}

/// Of many writers that saw the same value, one may change it.
#[test]
fn of_many_conditional_writes_over_one_value_one_succeeds() {
    let house = House::new();
    let tag = house.put("k", "first").header("etag").to_owned();
    let statuses = house.runtime.block_on(async {
        let headers = [("if-match", tag.as_str())];
        let writers = (0..16).map(|n| house.ask("PUT", "/api/v1/kv/k", &headers, Body::from(n.to_string())));
        let answers = futures_util::future::join_all(writers).await;
        answers
            .into_iter()
            .map(|answer| answer.status)
            .collect::<Vec<_>>()
    });
    let count = |status| statuses.iter().filter(|&&other| other == status).count();
    assert_eq!((count(204), count(412)), (1, 15), "{statuses:?}");
}
