//! The admin plane over the real engine, called without a socket: what each route answers, and what surrounds them all.

mod api;
mod around;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use corelane::api::Db;
use serde_json::Value;
use tower::ServiceExt as _;

use super::access::{Authorizer, NoUsers};
use super::guard::KV;
use super::plane::Plane;
use super::routes::router;
use crate::config::Admin;
use crate::testing::server;

/// What came back.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body.escape_ascii()))
    }

    /// A problem's word, after a look at its shape.
    fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], self.status);
        assert_eq!(body["request_id"], self.header("x-request-id"));
        assert!(!body["title"].as_str().unwrap().is_empty() && !body["detail"].as_str().unwrap().is_empty());
        body["type"]
            .as_str()
            .unwrap()
            .strip_prefix("about:corelane#")
            .unwrap()
            .to_owned()
    }
}

/// A database of two shards, and the plane over it.
struct House {
    _dir: tempfile::TempDir,
    db: Db,
    plane: Arc<Plane>,
    app: Router,
    runtime: tokio::runtime::Runtime,
    /// Method, documented path and status of every answer.
    seen: Mutex<BTreeSet<(String, String, u16)>>,
}

impl House {
    fn new() -> Self {
        Self::with(Admin::default(), Box::new(NoUsers))
    }

    fn with(limits: Admin, authorizer: Box<dyn Authorizer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::builder(dir.path().join("data"))
            .cores(vec![0])
            .shards(2)
            .open_blocking()
            .unwrap();
        let plane = Arc::new(Plane::new(
            db.clone(),
            Arc::new(server()),
            limits,
            authorizer,
            false,
        ));
        plane.set_ready(true);
        Self {
            app: router(&plane),
            _dir: dir,
            db,
            plane,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            seen: Mutex::default(),
        }
    }

    fn call(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.runtime.block_on(self.ask(method, uri, headers, body.into()))
    }

    async fn ask(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(uri);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost:7380");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .app
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        let path = uri.split('?').next().unwrap();
        let path = if path.starts_with(KV) {
            "/api/v1/kv/{key}"
        } else {
            path
        };
        let seen = (method.to_ascii_lowercase(), path.to_owned(), head.status.as_u16());
        self.seen.lock().unwrap().insert(seen);
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        }
    }

    fn get(&self, uri: &str) -> Answer {
        self.call("GET", uri, &[], "")
    }

    fn put(&self, key: &str, value: &str) -> Answer {
        self.call("PUT", &format!("{KV}{key}"), &[], value.to_owned())
    }

    /// A request with a JSON body.
    fn json(&self, method: &str, uri: &str, body: &Value) -> Answer {
        self.call(
            method,
            uri,
            &[("content-type", "application/json")],
            body.to_string(),
        )
    }
}
