//! Who clients are and what they may do.
//!
//! ```text
//! hash     secrets as argon2id PHC strings: made, checked
//! pool     checks them on threads of their own: a check holds a core for tens of ms, which no shard has
//! give_way has those threads give way to the shards'
//! places   how many guesses of one peer are under way
//! failures who was wrong how often
//! permit   which role may run which command: pure
//! ```
//!
//! A secret that was checked once is remembered as a keyed hash, under a key that never leaves this process, so that a
//! client that reconnects costs microseconds. A name that nobody has is checked all the same, against a hash of nothing,
//! so that the time of an answer does not tell which names there are. Each failure makes its address wait longer before
//! it hears of it, over whichever connections, on both planes. Until it has heard, the guess counts as under way, and of
//! those an address has so many: beyond them nobody checks its secrets, and it hears that as late as if they were wrong. A
//! secret that is remembered is let in a while longer, until [`places::UNTOLD`] guesses are under way.

pub mod failures;
mod give_way;
pub mod hash;
pub mod permit;
mod places;
pub mod pool;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;

use crate::command::Failure;
use crate::config::{Role, Users};

use failures::Failures;
pub use hash::hash_secret;
pub use permit::{may, permit};
use places::{Place, Places};
use pool::Pool;

/// The name of a client that has not said another.
pub const DEFAULT_USER: &str = "default";

/// Longest secret in bytes; a longer one is wrong without a look.
const MAX_SECRET_BYTES: usize = 1024;

/// After the first failure of an address.
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// However many there were: below the time a client has to say who it is, so that an honest one can try again.
const LONGEST_DELAY: Duration = Duration::from_secs(3);

/// One who may use the server.
#[derive(Debug)]
pub struct User {
    /// The name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The argon2id PHC string; empty where no secret is asked for.
    secret_hash: Arc<str>,
    /// The keyed hash of the secret, once it was checked.
    verified: OnceLock<hmac::Tag>,
}

impl User {
    fn new(name: &str, role: Role, secret_hash: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            role,
            secret_hash: secret_hash.into(),
            verified: OnceLock::new(),
        })
    }
}

/// What checking secrets takes.
#[derive(Debug)]
struct Checks {
    /// What the secret of somebody unknown is checked against.
    nobody: Arc<str>,
    /// Under which checked secrets are remembered.
    key: hmac::Key,
    pool: Pool,
    places: Arc<Places>,
}

impl Checks {
    fn start() -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            nobody: hash_secret("")?.into(),
            key: key
                .map_err(|_| "the system gives no random numbers; 32 bytes of them are needed".to_owned())?,
            pool: Pool::start()?,
            places: Arc::default(),
        })
    }
}

/// Who was not let in. It is the guess under way: kept until the client is told, which is to be after a delay.
#[derive(Debug)]
pub struct Denied {
    /// The answer.
    pub failure: Failure,
    _place: Option<Arc<Place>>,
}

impl Denied {
    /// Whether nobody looked at the secret, so that it was not wrong.
    pub fn is_unchecked(&self) -> bool {
        self.failure == Failure::BUSY_AUTH
    }
}

impl From<Failure> for Denied {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            _place: None,
        }
    }
}

/// All users.
#[derive(Debug)]
pub struct Auth {
    users: Vec<Arc<User>>,
    /// Whom a client is before it has said so.
    anybody: Arc<User>,
    /// `None` where there are no users.
    checks: Option<Checks>,
    failures: Failures,
}

impl Auth {
    /// Without users: everybody may do everything.
    pub fn open() -> Self {
        Self {
            users: Vec::new(),
            anybody: User::new(DEFAULT_USER, Role::Admin, ""),
            checks: None,
            failures: Failures::default(),
        }
    }

    /// For these users; without any, everybody may do everything.
    ///
    /// # Errors
    /// A secret's hash that cannot be read, or a system that gives no randomness or no threads, in words for an operator.
    pub fn new(users: &Users) -> Result<Self, String> {
        for user in users {
            hash::check_form(&user.secret_hash).map_err(|why| format!("user {:?}: {why}", user.name))?;
        }
        Ok(Self {
            users: users
                .iter()
                .map(|user| User::new(&user.name, user.role, &user.secret_hash))
                .collect(),
            checks: if users.is_empty() {
                None
            } else {
                Some(Checks::start()?)
            },
            ..Self::open()
        })
    }

    /// Whether there are no users, so that nobody has to say who they are.
    pub fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    /// Whom a client is before it has said so.
    pub fn anybody(&self) -> &Arc<User> {
        &self.anybody
    }

    /// The user of this name.
    pub fn find(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.users.iter().find(|user| user.name.as_bytes() == name)
    }

    /// Whether a client can have this name.
    pub fn knows(&self, name: &[u8]) -> bool {
        name == DEFAULT_USER.as_bytes() || self.find(name).is_some()
    }

    /// A name for a log: itself where a client can have it, and only that there is none such otherwise. What nobody is
    /// called is often a secret, typed into the wrong place.
    pub fn name_to_tell<'a>(&self, name: &'a [u8]) -> &'a str {
        let known = std::str::from_utf8(name).ok().filter(|_| self.knows(name));
        known.unwrap_or("(unknown)")
    }

    /// Notes that a client at `peer` was wrong about who it is, at `now` of the process's clock: how often clients of there
    /// were lately, this time included. The news of it is to come after [`delay`].
    pub fn note_failure(&self, peer: IpAddr, now: Duration) -> u32 {
        self.failures.note(peer, now)
    }

    /// How long a client at `peer` waits to hear that nobody looked at its secret: as long as for the news that it was wrong.
    pub fn delay_unchecked(&self, peer: IpAddr, now: Duration) -> Duration {
        delay(self.failures.of(peer, now))
    }

    /// Who proves by `secret` to be `name`. Waits for a thread of the pool where the secret was not checked before; no
    /// core is held meanwhile.
    ///
    /// # Errors
    /// The answer to whoever did not, or that too many are being checked: of all, or of those at `peer`.
    pub async fn verify(&self, name: &[u8], secret: &[u8], peer: IpAddr) -> Result<Arc<User>, Denied> {
        let Some(checks) = &self.checks else {
            let known = name == DEFAULT_USER.as_bytes();
            return known
                .then(|| Arc::clone(&self.anybody))
                .ok_or(Failure::WRONG_PASS.into());
        };
        if secret.len() > MAX_SECRET_BYTES {
            return Err(Failure::WRONG_PASS.into());
        }
        if checks.places.are_full(peer) {
            return Err(Failure::BUSY_AUTH.into());
        }
        if let Some(user) = self.recall(name, secret) {
            return Ok(user);
        }
        let user = self.find(name);
        let Some(place) = checks.places.take(peer, places::PLACES) else {
            // Of a user whose secret is remembered it is known already.
            let wrong = user.is_some_and(|user| user.verified.get().is_some());
            if !wrong {
                return Err(Failure::BUSY_AUTH.into());
            }
            return Err(Denied {
                failure: Failure::WRONG_PASS,
                _place: checks.places.take(peer, places::UNTOLD),
            });
        };
        let hash = Arc::clone(user.map_or(&checks.nobody, |user| &user.secret_hash));
        let checked = checks.pool.check(hash, secret.to_vec(), &place).await;
        match (user, checked) {
            (Some(user), Ok(true)) => {
                // Whoever was first keeps it: it is the tag of the same secret.
                let _same = user.verified.set(hmac::sign(&checks.key, secret));
                Ok(Arc::clone(user))
            }
            (_, checked) => Err(Denied {
                failure: checked.err().unwrap_or(Failure::WRONG_PASS),
                _place: Some(place),
            }),
        }
    }

    /// Who is remembered to have proved by `secret` to be `name`.
    fn recall(&self, name: &[u8], secret: &[u8]) -> Option<Arc<User>> {
        let key = &self.checks.as_ref()?.key;
        let user = self.find(name)?;
        let tag = user.verified.get()?;
        hmac::verify(key, secret, tag.as_ref())
            .is_ok()
            .then(|| Arc::clone(user))
    }
}

#[cfg(test)]
impl Auth {
    /// For these users, while as many secrets wait to be checked as may.
    pub(crate) fn busy(users: &Users) -> Self {
        let mut auth = Self::new(users).unwrap();
        auth.checks.as_mut().unwrap().pool = Pool::stuck(0);
        auth
    }

    /// For these users, while no check is ever done.
    pub(crate) fn stuck(users: &Users) -> Self {
        let mut auth = Self::new(users).unwrap();
        auth.checks.as_mut().unwrap().pool = Pool::stuck(pool::QUEUED);
        auth
    }
}

/// How long a client waits for the news of its `failures`th failure.
pub fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_DELAY * (1 << doublings)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::config::User as Configured;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    pub(super) fn users(of: &[(&str, Role, &str)]) -> Users {
        of.iter()
            .map(|&(name, role, secret)| Configured {
                name: name.to_owned(),
                role,
                secret_hash: hash_secret(secret).unwrap(),
            })
            .collect()
    }

    #[test]
    fn who_knows_the_secret_is_let_in_and_nobody_else() {
        let auth = Auth::new(&users(&[("ada", Role::Write, "one"), ("bob", Role::Read, "two")])).unwrap();
        let verify = |name: &str, secret: &str| {
            let user = block_on(auth.verify(name.as_bytes(), secret.as_bytes(), HERE));
            user.map(|user| user.name.clone())
                .map_err(|denied| denied.failure.0)
        };
        for _ in 0..2 {
            assert_eq!(verify("ada", "one").as_deref(), Ok("ada"));
            for (name, secret) in [
                ("ada", "two"),
                ("bob", "one"),
                ("eve", ""),
                ("ada", ""),
                ("default", "one"),
            ] {
                assert_eq!(
                    verify(name, secret),
                    Err(Failure::WRONG_PASS.0),
                    "{name} {secret}"
                );
            }
        }
        assert_eq!(verify("bob", &"x".repeat(5000)), Err(Failure::WRONG_PASS.0));
        assert!(auth.knows(b"ada") && auth.knows(b"default") && !auth.knows(b"eve") && !auth.is_open());
    }

    #[test]
    fn a_secret_that_was_checked_once_is_not_checked_by_the_pool_again() {
        let auth = Auth::new(&users(&[("ada", Role::Admin, "one")])).unwrap();
        block_on(auth.verify(b"ada", b"one", HERE)).unwrap();
        let checks = || auth.checks.as_ref().unwrap().pool.checks();
        let before = checks();
        assert!(before > 0);
        block_on(auth.verify(b"ada", b"one", HERE)).unwrap();
        assert_eq!(checks(), before);
        block_on(auth.verify(b"ada", b"on", HERE)).unwrap_err();
        assert_eq!(checks(), before + 1, "another secret is");
    }

    /// Whoever sent wrong secrets over a hundred connections filled the queue of those to be checked, so that nobody else was
    /// let in who had not been before.
    #[test]
    fn one_peer_s_guesses_leave_room_for_everybody_else_s() {
        let peer = |n: u8| IpAddr::from([10, 0, 0, n]);
        let auth = Auth::stuck(&users(&[("ada", Role::Admin, "one")]));
        let guess = |n| Box::pin(auth.verify(b"ada", b"one", peer(n)));
        block_on(async {
            let mut waiting = Vec::new();
            let busy = loop {
                let mut guess = guess(1);
                match poll_once(&mut guess).await {
                    None => waiting.push(guess),
                    Some(told) => break told.unwrap_err(),
                }
            };
            assert!(busy.is_unchecked());
            assert!(
                poll_once(&mut guess(2)).await.is_none(),
                "another one's is queued"
            );
            // What it has queued is still there when its clients have gone.
            drop(waiting);
            assert!(poll_once(&mut guess(1)).await.is_some_and(|told| told.is_err()));
            assert!(poll_once(&mut guess(3)).await.is_none());
        });
    }

    /// Delays held up one connection each: over a hundred of them a hundred guesses were checked in the time of one.
    #[test]
    fn a_guess_is_under_way_until_its_client_was_told() {
        let auth = Auth::new(&users(&[("ada", Role::Admin, "one")])).unwrap();
        let guess = || block_on(auth.verify(b"ada", b"two", HERE)).unwrap_err();
        let mut untold: Vec<_> = (0..places::PLACES).map(|_| guess()).collect();
        assert!(untold.iter().all(|denied| !denied.is_unchecked()));
        assert!(guess().is_unchecked());
        untold.pop();
        let told = guess();
        assert!(!told.is_unchecked(), "there is a place again");
        // A right secret that was checked for somebody else needs no place.
        untold.push(told);
        let right = || block_on(auth.verify(b"ada", b"one", HERE));
        assert!(right().is_err_and(|denied| denied.is_unchecked()) && auth.recall(b"ada", b"one").is_none());
        block_on(auth.verify(b"ada", b"one", [10, 0, 0, 1].into())).unwrap();
        assert!(auth.recall(b"ada", b"one").is_some() && auth.recall(b"ada", b"two").is_none());
        assert!(right().is_ok());
    }

    /// A secret that was remembered told at once, uncounted and however many asked, whether a guess was right.
    #[test]
    fn guesses_at_a_remembered_secret_are_guesses_too() {
        let auth = Auth::new(&users(&[("ada", Role::Admin, "one")])).unwrap();
        let ask = |secret: &[u8], peer| block_on(auth.verify(b"ada", secret, peer));
        ask(b"one", HERE).unwrap();
        let untold: Vec<_> = (0..places::UNTOLD)
            .map(|_| ask(b"two", HERE).unwrap_err())
            .collect();
        assert!(
            untold.iter().all(|denied| !denied.is_unchecked()),
            "each is told as wrong"
        );
        let looked_at = |secret| !ask(secret, HERE).is_err_and(|denied| denied.is_unchecked());
        assert!(!looked_at(b"two".as_slice()) && !looked_at(b"one"));
        assert!(ask(b"one", [10, 0, 0, 1].into()).is_ok(), "others are let in");
        drop(untold);
        assert!(ask(b"one", HERE).is_ok());
    }

    #[test]
    fn only_known_names_are_told() {
        let auth = Auth::new(&users(&[("ada", Role::Admin, "one")])).unwrap();
        let told = ["ada", "default", "Ada", "one", ""].map(|name| auth.name_to_tell(name.as_bytes()));
        assert_eq!(told, ["ada", "default", "(unknown)", "(unknown)", "(unknown)"]);
        assert_eq!(auth.name_to_tell(b"\xff"), "(unknown)");
    }

    #[test]
    fn without_users_the_default_one_is_anybody() {
        let auth = Auth::new(&Users::default()).unwrap();
        assert!(auth.is_open());
        assert!(block_on(auth.verify(b"default", b"whatever", HERE)).is_ok());
        assert!(block_on(auth.verify(b"ada", b"", HERE)).is_err());
    }

    #[test]
    fn delays_grow_up_to_their_bound() {
        assert_eq!(delay(1), FIRST_DELAY);
        assert_eq!(delay(2), 2 * FIRST_DELAY);
        assert!((1..100).all(|n| delay(n) <= delay(n + 1)));
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }

    #[test]
    fn a_hash_that_is_none_names_its_user() {
        let mut users = users(&[("ada", Role::Admin, "one")]);
        users[0].secret_hash = "secret".to_owned();
        let why = Auth::new(&users).unwrap_err();
        assert!(
            why.contains("\"ada\"") && why.contains("corelane user hash"),
            "{why}"
        );
    }
}
