//! Secrets as argon2id PHC strings (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`): made here, kept in the configuration.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

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

/// Whether `secret` is the one that was hashed. Takes tens of ms, whatever the answer; the comparison's time tells
/// nothing of the secret.
pub fn is_right(hash: &str, secret: &[u8]) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(secret, &hash).is_ok())
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
        assert!(is_right(&one, b"open sesame") && is_right(&two, b"open sesame"));
        assert!(!is_right(&one, b"open sesam") && !is_right("", b"") && !is_right("x", b"x"));
        assert_eq!(check_form(&one), Ok(()));
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
