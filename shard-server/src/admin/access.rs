//! Who a caller is and what the caller may do. Which secret belongs to whom is for an [`Authorizer`] to know; how
//! credentials are read from a request, and which role a request needs, is pure.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::problem::{BUSY_AGAIN_S, Problem};
use crate::auth;
use crate::config::Role;
use crate::server::Server;

/// What a caller says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user; `default` where a bearer named none.
    pub user: String,
    /// The secret.
    pub secret: String,
}

impl fmt::Debug for Credentials {
    /// Without the secret, and without the name, which may be a secret in the wrong place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// What came of a caller's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// There are no users: whoever reaches the plane may do everything.
    Everybody,
    /// A user of this role.
    User(Role),
    /// Nobody: credentials are missing or wrong.
    Nobody,
    /// Whoever it is: too many secrets wait to be checked, and nobody looked at this one.
    Unchecked,
}

/// What an [`Authorizer`] answers, in time.
pub type Identified<'a> = Pin<Box<dyn Future<Output = Identity> + Send + 'a>>;

/// Knows the users. It must not hold its caller's thread while it looks at a secret.
pub trait Authorizer: Send + Sync + fmt::Debug {
    /// Who a caller is.
    fn identify<'a>(&'a self, credentials: Option<Credentials>, peer: IpAddr) -> Identified<'a>;
}

/// The authorizer where there are no users.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoUsers;

impl Authorizer for NoUsers {
    fn identify<'a>(&'a self, _: Option<Credentials>, _: IpAddr) -> Identified<'a> {
        Box::pin(std::future::ready(Identity::Everybody))
    }
}

/// The authorizer over the users of the configuration, the same as of the data plane.
#[derive(Debug)]
pub struct KnownUsers(Arc<Server>);

impl KnownUsers {
    /// The users of a server.
    pub fn of(server: Arc<Server>) -> Self {
        Self(server)
    }

    /// Tells the log of a failure. How long the peer waits for the news of it: longer each time, as on the data plane.
    fn failed(&self, user: &str, peer: IpAddr) -> Duration {
        let failures = self.0.failed_auth(peer);
        let user = self.0.auth().name_to_tell(user.as_bytes());
        tracing::warn!(%peer, user, failures, "admin plane: credentials are wrong");
        auth::delay(failures)
    }
}

impl Authorizer for KnownUsers {
    /// A failure is told late: guessing shall take long, and an honest mistake costs one short wait.
    fn identify<'a>(&'a self, credentials: Option<Credentials>, peer: IpAddr) -> Identified<'a> {
        Box::pin(async move {
            let Some(Credentials { user, secret }) = credentials else {
                return Identity::Nobody;
            };
            let (name, secret) = (user.as_bytes(), secret.as_bytes());
            let verified = self.0.verify(name, secret, peer, tokio::time::sleep);
            let denied = match verified.await {
                Ok(known) => return Identity::User(known.role),
                Err(denied) if denied.is_unchecked() => return Identity::Unchecked,
                Err(denied) => denied,
            };
            let delay = self.failed(&user, peer);
            // A task of its own: who hangs up does not take back the guess, which is under way until it would have been told.
            let told = tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                drop(denied);
            });
            // It cannot fail, and what was wrong stays so.
            let _told = told.await;
            Identity::Nobody
        })
    }
}

/// The authorizer for a server: by its users, or for everybody where it has none.
pub fn for_server(server: &Arc<Server>) -> Box<dyn Authorizer> {
    if server.auth().is_open() {
        Box::new(NoUsers)
    } else {
        Box::new(KnownUsers::of(Arc::clone(server)))
    }
}

/// Longest credentials that are looked at: a user's name and secret are far shorter.
const MAX_CREDENTIALS_BYTES: usize = 4096;

/// The user whom a bearer's token belongs to where it names none.
const DEFAULT_USER: &str = "default";

/// The credentials of a request: `Basic`, or `Bearer` with a token `user:secret` or the secret of `default`.
///
/// # Errors
/// There are some and they cannot be read.
pub fn credentials(headers: &HeaderMap) -> Result<Option<Credentials>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let bad = || {
        Problem::bad_request("Authorization: it is neither `Basic` with base64 of user:secret nor `Bearer`")
    };
    let text = value.to_str().map_err(|_| bad())?;
    let (scheme, rest) = text.split_once(' ').ok_or_else(bad)?;
    if rest.len() > MAX_CREDENTIALS_BYTES {
        return Err(bad());
    }
    let pair = match scheme.to_ascii_lowercase().as_str() {
        "basic" => {
            let bytes = STANDARD.decode(rest.trim()).map_err(|_| bad())?;
            String::from_utf8(bytes).map_err(|_| bad())?
        }
        "bearer" => rest.trim().to_owned(),
        _ => return Err(bad()),
    };
    let (user, secret) = pair.split_once(':').unwrap_or((DEFAULT_USER, &pair));
    Ok(Some(Credentials {
        user: user.to_owned(),
        secret: secret.to_owned(),
    }))
}

/// The role that a request needs; `None` for those that anybody may make: probes must work without secrets.
pub fn needed(method: &Method, path: &str) -> Option<Role> {
    match path {
        "/livez" | "/readyz" | "/api/v1/openapi.json" => None,
        "/api/v1/flush" | "/api/v1/compact" => Some(Role::Admin),
        _ if *method == Method::GET || *method == Method::HEAD => Some(Role::Read),
        "/api/v1/log-level" => Some(Role::Admin),
        _ => Some(Role::Write),
    }
}

/// Whether a caller may do what needs `needed`.
///
/// # Errors
/// 401 for nobody in particular, 403 for a user of a lesser role, 503 for one whose secret could not be checked yet.
pub fn may(identity: Identity, needed: Option<Role>) -> Result<(), Problem> {
    match (needed, identity) {
        (None, _) | (_, Identity::Everybody) => Ok(()),
        (Some(needed), Identity::User(role)) if role >= needed => Ok(()),
        (Some(needed), Identity::User(role)) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("a user of the role {role:?} may not do this; it needs {needed:?}"),
        )),
        (Some(_), Identity::Nobody) => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "credentials are missing or wrong; send Authorization: Basic or Bearer",
        )),
        (Some(_), Identity::Unchecked) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many secrets are being checked, and this one was not looked at; try again",
        )
        .again_after(BUSY_AGAIN_S)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Option<(String, String)>, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        credentials(&headers).map(|found| found.map(|found| (found.user, found.secret)))
    }

    #[test]
    fn credentials_are_read_from_both_schemes() {
        let of = |user: &str, secret: &str| Ok(Some((user.to_owned(), secret.to_owned())));
        assert_eq!(read("Basic b3BzOmE6Yg=="), of("ops", "a:b"));
        assert_eq!(read("bearer ops:a:b"), of("ops", "a:b"));
        assert_eq!(read("Bearer token"), of("default", "token"));
        for bad in [
            "Basic",
            "Basic !",
            "Digest x",
            "token",
            &format!("Bearer {}", "x".repeat(5000)),
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(credentials(&HeaderMap::new()), Ok(None));
    }

    /// One user.
    fn users() -> crate::config::Users {
        vec![crate::config::User {
            name: "ops".to_owned(),
            role: Role::Write,
            secret_hash: auth::hash_secret("right").unwrap(),
        }]
    }

    fn server_with(auth: auth::Auth) -> Arc<Server> {
        Arc::new(crate::testing::server().with_auth(auth))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    /// While the pool that checks secrets was full, a right secret was answered 401: clients took it for wrong and gave it
    /// up, and operators rotated secrets that were fine.
    #[test]
    fn a_secret_that_could_not_be_checked_is_not_called_wrong() {
        let known = for_server(&server_with(auth::Auth::busy(&users())));
        let credentials = Credentials {
            user: "ops".to_owned(),
            secret: "right".to_owned(),
        };
        let peer = [127, 0, 0, 1].into();
        let identity = runtime().block_on(known.identify(Some(credentials), peer));
        let problem = may(identity, Some(Role::Read)).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.kind), (503, "busy"));
        assert_eq!(problem.retry_after_s, Some(BUSY_AGAIN_S));
    }

    /// Every failure cost the same short wait: whoever guessed over HTTP could go on as fast as it had begun.
    #[test]
    fn whoever_fails_again_waits_longer_and_others_do_not() {
        let known = KnownUsers::of(server_with(auth::Auth::new(&users()).unwrap()));
        let wait = |n: u8| known.failed("ops", [127, 0, 0, n].into());
        for failures in 1..=9 {
            assert_eq!(wait(1), auth::delay(failures));
        }
        assert_eq!(wait(2), auth::delay(1));
    }

    /// The log named whatever stood in the user's place, and that is often a secret.
    #[test]
    fn the_log_names_no_user_that_is_none() {
        let known = KnownUsers::of(server_with(auth::Auth::new(&users()).unwrap()));
        let told = crate::testing::logged(|| {
            for user in ["ops", "hunter2"] {
                known.failed(user, [127, 0, 0, 1].into());
            }
        });
        assert!(
            told.contains("user=\"ops\"") && told.contains("user=\"(unknown)\""),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn the_users_of_the_data_plane_are_those_of_this_one() {
        let server = server_with(auth::Auth::new(&users()).unwrap());
        let known = for_server(&server);
        let runtime = runtime();
        let ask = |user: &str, secret: &str| {
            let credentials = Credentials {
                user: user.to_owned(),
                secret: secret.to_owned(),
            };
            runtime.block_on(known.identify(Some(credentials), [127, 0, 0, 1].into()))
        };
        assert_eq!(ask("ops", "right"), Identity::User(Role::Write));
        assert_eq!(ask("ops", "wrong"), Identity::Nobody);
        assert_eq!(ask("other", "right"), Identity::Nobody);
        assert_eq!(
            runtime.block_on(known.identify(None, [127, 0, 0, 1].into())),
            Identity::Nobody
        );
        let open = for_server(&Arc::new(crate::testing::server()));
        assert_eq!(
            runtime.block_on(open.identify(None, [127, 0, 0, 1].into())),
            Identity::Everybody
        );
    }

    #[test]
    fn each_role_may_do_its_own_and_lesser_things() {
        for (method, path, role) in [
            (Method::GET, "/livez", None),
            (Method::GET, "/metrics", Some(Role::Read)),
            (Method::GET, "/health", Some(Role::Read)),
            (Method::HEAD, "/api/v1/kv/a", Some(Role::Read)),
            (Method::PUT, "/api/v1/kv/a", Some(Role::Write)),
            (Method::DELETE, "/api/v1/kv/a", Some(Role::Write)),
            (Method::POST, "/api/v1/batch", Some(Role::Write)),
            (Method::POST, "/api/v1/flush", Some(Role::Admin)),
            (Method::GET, "/api/v1/log-level", Some(Role::Read)),
            (Method::PUT, "/api/v1/log-level", Some(Role::Admin)),
        ] {
            assert_eq!(needed(&method, path), role, "{method} {path}");
            for own in [Role::Read, Role::Write, Role::Admin] {
                let allowed = role.is_none_or(|needed| own >= needed);
                assert_eq!(may(Identity::User(own), role).is_ok(), allowed, "{own:?} {path}");
            }
            let status = may(Identity::Nobody, role)
                .err()
                .map(|problem| problem.status.as_u16());
            assert_eq!(status, role.map(|_| 401), "{path}");
            assert!(may(Identity::Everybody, role).is_ok());
        }
    }
}
