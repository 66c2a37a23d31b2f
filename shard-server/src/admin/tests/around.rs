//! What surrounds every route: ids, names, rates, users, time, panics.

use std::future::pending;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use axum::routing::get;

use super::*;
use crate::admin::access::{Credentials, Identified, Identity};
use crate::admin::routes::around;
use crate::config::Role;

#[test]
fn a_request_keeps_its_id_or_gets_one_and_problems_name_it() {
    let house = House::new();
    let mine = house.call("GET", "/livez", &[("x-request-id", "mine-7")], "");
    assert_eq!(mine.header("x-request-id"), "mine-7");
    let (one, other) = (house.get("/nowhere"), house.get("/nowhere"));
    assert_eq!((one.status, one.problem().as_str()), (404, "no-such-route"));
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    let odd = house.call("GET", "/livez", &[("x-request-id", "a b")], "");
    assert_ne!(odd.header("x-request-id"), "a b");
    let wrong = house.call("PATCH", "/api/v1/scan", &[], "");
    assert_eq!(
        (wrong.status, wrong.problem().as_str()),
        (405, "method-not-allowed")
    );
    assert!(wrong.header("allow").contains("GET"), "{:?}", wrong.headers);
}

#[test]
fn names_and_pages_of_strangers_are_turned_away() {
    let house = House::new();
    for (headers, status, word) in [
        (&[("host", "rebound.example")][..], 403, "unknown-host"),
        (&[("origin", "http://attacker.example")], 403, "unknown-origin"),
        (&[("origin", "null")], 403, "unknown-origin"),
    ] {
        let answer = house.call("PUT", "/api/v1/kv/a", headers, "x");
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (status, word),
            "{headers:?}"
        );
    }
    assert_eq!(house.get("/api/v1/kv/a").status, 404, "nothing was written");
    let two = [("host", "localhost"), ("host", "rebound.example")];
    assert_eq!(house.call("GET", "/livez", &two, "").status, 400);
    let everywhere = Admin {
        bind: [0, 0, 0, 0].into(),
        ..Admin::default()
    };
    let open = House::with(everywhere, Box::new(NoUsers));
    for (host, origin, status) in [
        ("10.0.0.6:7380", None, 204),
        ("10.0.0.6:7380", Some("http://10.0.0.6:7380"), 204),
        ("10.0.0.6:7380", Some("http://203.0.113.9"), 403),
        ("rebound.example:7380", None, 403),
        ("rebound.example:7380", Some("http://rebound.example:7380"), 403),
    ] {
        let headers: Vec<_> = std::iter::once(("host", host))
            .chain(origin.map(|origin| ("origin", origin)))
            .collect();
        let answer = open.call("POST", "/api/v1/flush", &headers, "");
        assert_eq!(answer.status, status, "{headers:?}");
    }
    let bare = Request::builder().uri("/livez").body(Body::empty()).unwrap();
    let answer = house.runtime.block_on(house.app.clone().oneshot(bare)).unwrap();
    assert_eq!(
        answer.status(),
        StatusCode::BAD_REQUEST,
        "a request without a host"
    );
}

#[test]
fn pages_may_call_only_from_the_origins_that_are_configured() {
    let ask = [
        ("origin", "https://ops.example"),
        ("access-control-request-method", "PUT"),
    ];
    let closed = House::new();
    let answer = closed.call("OPTIONS", "/api/v1/kv/a", &ask, "");
    assert!(answer.status == 403 && answer.header("access-control-allow-origin").is_empty());
    let limits = Admin {
        cors_origins: vec!["https://ops.example".to_owned()],
        ..Admin::default()
    };
    let open = House::with(limits, Box::new(Known));
    let answer = open.call("OPTIONS", "/api/v1/kv/a", &ask, "");
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, "https://ops.example")
    );
    let answer = open.call("GET", "/api/v1/kv/a", &ask[..1], "");
    assert_eq!(
        answer.status, 401,
        "the question needs no credentials, the request does"
    );
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://ops.example"
    );
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let limits = Admin {
        rate_per_s: 1,
        rate_burst: 3,
        ..Admin::default()
    };
    let house = House::with(limits, Box::new(NoUsers));
    let answers: Vec<_> = (0..4).map(|_| house.get("/livez")).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    let last = &answers[3];
    assert_eq!(
        (last.problem().as_str(), last.header("retry-after")),
        ("rate-limited", "1")
    );
    assert_eq!(house.plane.counts.limited.load(Ordering::Relaxed), 1);
}

/// Users whose secret is their name.
#[derive(Debug)]
struct Known;

impl Authorizer for Known {
    fn identify<'a>(&'a self, credentials: Option<Credentials>, _: IpAddr) -> Identified<'a> {
        let role = credentials
            .filter(|known| known.user == known.secret)
            .and_then(|known| match known.user.as_str() {
                "reader" => Some(Role::Read),
                "writer" => Some(Role::Write),
                "admin" => Some(Role::Admin),
                _ => None,
            });
        Box::pin(std::future::ready(role.map_or(Identity::Nobody, Identity::User)))
    }
}

#[test]
fn users_may_do_what_their_role_allows() {
    let house = House::with(Admin::default(), Box::new(Known));
    for (user, method, uri, status) in [
        ("", "GET", "/livez", 200),
        ("", "GET", "/readyz", 200),
        ("", "GET", "/metrics", 401),
        ("", "GET", "/health", 401),
        ("", "PUT", "/api/v1/kv/a", 401),
        ("nobody:nobody", "GET", "/api/v1/kv/a", 401),
        ("admin:wrong", "GET", "/api/v1/kv/a", 401),
        ("reader:reader", "GET", "/api/v1/kv/a", 404),
        ("reader:reader", "GET", "/metrics", 200),
        ("reader:reader", "PUT", "/api/v1/kv/a", 403),
        ("writer:writer", "PUT", "/api/v1/kv/a", 201),
        ("writer:writer", "POST", "/api/v1/flush", 403),
        ("admin:admin", "POST", "/api/v1/flush", 204),
    ] {
        let bearer = format!("Bearer {user}");
        let headers = [("authorization", bearer.as_str())];
        let headers = if user.is_empty() { &[][..] } else { &headers };
        let answer = house.call(method, uri, headers, "");
        assert_eq!(answer.status, status, "{user} {method} {uri}");
        assert_eq!(
            answer.header("www-authenticate").starts_with("Basic"),
            status == 401
        );
    }
    let basic = house.call(
        "GET",
        "/api/v1/kv/a",
        &[("authorization", "Basic cmVhZGVyOnJlYWRlcg==")],
        "",
    );
    assert_eq!(basic.status, 200);
}

/// Routes that no plane should have.
fn bad_routes(house: &House) -> Router {
    async fn panics() -> &'static str {
        panic!("a bug, made for this test");
    }
    async fn hangs() -> &'static str {
        pending().await
    }
    around(
        Router::new()
            .route("/api/panics", get(panics))
            .route("/api/hangs", get(hangs)),
        &house.plane,
    )
}

#[test]
fn a_panic_and_a_hang_are_answered_and_the_next_request_goes_on() {
    let limits = Admin {
        request_ms: 50,
        requests: 1,
        ..Admin::default()
    };
    let mut house = House::with(limits, Box::new(NoUsers));
    house.app = bad_routes(&house);
    for _ in 0..2 {
        let panicked = house.get("/api/panics");
        assert_eq!((panicked.status, panicked.problem().as_str()), (500, "internal"));
        let hung = house.get("/api/hangs");
        assert_eq!((hung.status, hung.problem().as_str()), (503, "timeout"));
        assert_eq!(hung.header("retry-after"), "1");
    }
    assert_eq!(house.plane.counts.panicked.load(Ordering::Relaxed), 2);
    let classes: Vec<_> = house.plane.counts.by_class().collect();
    assert_eq!(classes[4], ("5xx", 4));
}
