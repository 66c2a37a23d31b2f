//! Secrets as argon2id PHC strings (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`): made here, kept in the configuration.

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// The secret's hash, under a new salt, with the parameters that its authors recommend (19 MiB, two passes).
///
/// # Errors
/// A system that gives no randomness, in words for an operator.
pub fn hash_secret(secret: &str) -> Result<String, String> {
    let hash: PasswordHash = Argon2::default()
        .hash_password(secret.as_bytes())
        .map_err(|error| format!("hashing a secret: {error}"))?;
    Ok(hash.to_string())
}

/// Whether a text is a hash that secrets can be checked against.
///
/// # Errors
/// What is wrong with it, in words for an operator; the text itself is not repeated.
pub fn check_form(hash: &str) -> Result<(), String> {
    let refused = |why: &str| {
        Err(format!(
            "its secret_hash {why}; make one with `corelane user hash`"
        ))
    };
    match PasswordHash::new(hash) {
        Ok(read) if read.algorithm.as_str() != "argon2id" => refused("is not one of argon2id"),
        Ok(read) if read.hash.is_none() || read.salt.is_none() => refused("has no salt or no hash"),
        Ok(_) => Ok(()),
        Err(_) => refused("is not a PHC string"),
    }
}

/// Checks secrets, one at a time, over memory that it keeps: 19 MiB once it has checked one.
///
/// Memory that is taken and given back for each check is never given back to the system: glibc takes blocks of this size
/// from its arenas once it has seen one go, and their alignment leaves holes there that the next does not fit in. A
/// flood of wrong secrets made it hold twenty times what two threads check over.
#[derive(Default)]
pub struct Checker {
    blocks: Vec<Block>,
}

impl Checker {
    /// Whether `secret` is the one that was hashed. Takes tens of ms, whatever the answer; the comparison's time tells
    /// nothing of the secret.
    pub fn is_right(&mut self, hash: &str, secret: &[u8]) -> bool {
        PasswordHash::new(hash).is_ok_and(|hash| self.hashes_to(&hash, secret).unwrap_or(false))
    }

    /// `None` where the hash is not one that can be checked against.
    fn hashes_to(&mut self, hash: &PasswordHash, secret: &[u8]) -> Option<bool> {
        let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = hash
            .version
            .map_or(Ok(Version::default()), Version::try_from)
            .ok()?;
        let params = Params::try_from(hash).ok()?;
        if self.blocks.len() < params.block_count() {
            self.blocks.resize(params.block_count(), Block::new());
        }
        let argon2 = Argon2::new(algorithm, version, params);
        let mut computed = vec![0; expected.len()];
        argon2
            .hash_password_into_with_memory(secret, salt, &mut computed, &mut self.blocks[..])
            .ok()?;
        // An `Output` is compared in the same time wherever it differs.
        Some(Output::new(&computed).ok()? == *expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_secret_and_no_two_are_alike() {
        let (one, two) = (
            hash_secret("open sesame").unwrap(),
            hash_secret("open sesame").unwrap(),
        );
        assert_ne!(one, two, "salted");
        assert!(one.starts_with("$argon2id$v=19$"), "{one}");
        let mut checker = Checker::default();
        let mut is_right = |hash, secret: &str| checker.is_right(hash, secret.as_bytes());
        assert!(is_right(&one, "open sesame") && is_right(&two, "open sesame"));
        assert!(!is_right(&one, "open sesam") && !is_right("", "") && !is_right("x", "x"));
        assert_eq!(check_form(&one), Ok(()));
    }

    /// Memory that is kept holds the blocks of the check before: they must not matter, whatever its parameters were.
    #[test]
    fn what_was_checked_before_does_not_matter() {
        let params = |kib, passes| Params::new(kib, passes, 1, None).unwrap();
        let hash = |params| -> String {
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let hash: PasswordHash = argon2.hash_password(b"right").unwrap();
            hash.to_string()
        };
        let hashes = [(64, 1), (8, 3), (64, 2), (16, 1)].map(|(kib, passes)| hash(params(kib, passes)));
        let mut checker = Checker::default();
        for hash in hashes.iter().cycle().take(12) {
            assert!(checker.is_right(hash, b"right"), "{hash}");
            assert!(!checker.is_right(hash, b"wrong"), "{hash}");
        }
    }

    #[test]
    fn what_is_no_hash_of_argon2id_is_refused() {
        for hash in [
            "",
            "secret",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2i$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        ] {
            assert!(check_form(hash).is_err(), "{hash}");
        }
    }
}
