//! TLS on the data plane: certificates ([`Tls`]), the stream that wears it ([`stream`]), and a socket that may or may not
//! ([`socket`]). Handshakes of a core take [`turns`].
//!
//! It is rustls without a runtime: records are opened and sealed on the core that serves the connection, over the seam's
//! own streams. TLS 1.2 and 1.3. New certificates are for connections that come after them; those that are there go on.

pub mod socket;
pub mod stream;
pub mod turns;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config;

/// Largest file of certificates or keys that is read, in bytes: a hundred times a long chain.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The certificates in force.
#[derive(Debug)]
pub struct Tls {
    files: config::Tls,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// Which file cannot be read or used, and why, in words for an operator.
    pub fn load(files: config::Tls) -> Result<Self, String> {
        let current = RwLock::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// Reads the files again. What was in force stays so unless all of them can be used.
    ///
    /// # Errors
    /// As for [`Tls::load`].
    pub fn reload(&self) -> Result<(), String> {
        let new = read(&self.files)?;
        // Only a whole value is ever put there.
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What new connections are answered with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(files: &config::Tls) -> Result<Arc<ServerConfig>, String> {
    let (Some(cert), Some(key)) = (&files.cert, &files.key) else {
        return Err("TLS needs a certificate and its key: set tls.cert and tls.key".to_owned());
    };
    let authority = match &files.client_ca {
        None => None,
        Some(path) => Some((path.as_path(), read_file(path)?)),
    };
    let client_ca = authority.as_ref().map(|(path, pem)| (*path, pem.as_slice()));
    let config = server_config((cert, &read_file(cert)?), (key, &read_file(key)?), client_ca)?;
    Ok(Arc::new(config))
}

#[expect(
    clippy::disallowed_methods,
    reason = "read at the start and at SIGHUP, by the main thread; certificates are no data of the engine"
)]
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let why = |error| format!("reading {}: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(why)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(format!(
            "reading {}: {bytes} bytes are more than certificates take ({MAX_FILE_BYTES})",
            path.display()
        ));
    }
    std::fs::read(path).map_err(why)
}

/// A file's name and its text.
type Pem<'a> = (&'a Path, &'a [u8]);

/// What connections are answered with, from the texts of the files. With `client_ca` clients must show a certificate that
/// one of those signed.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn server_config(
    cert: Pem<'_>,
    key: Pem<'_>,
    client_ca: Option<Pem<'_>>,
) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_slice(key.1)
        .map_err(|error| format!("{}: no private key in it: {error}", key.0.display()))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("setting up TLS: {error}"))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("{}: {error}", file.0.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| format!("{}: {error}", file.0.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder
        .with_single_cert(chain, private)
        .map_err(|error| format!("{} with {}: {error}", cert.0.display(), key.0.display()))
}

fn certificates((path, pem): Pem<'_>) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(chain) if chain.is_empty() => Err(format!("{}: no certificate in it", path.display())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    /// A certificate for `localhost` and its key, PEM.
    pub(crate) fn made() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("the name is one");
        (cert.pem(), signing_key.serialize_pem())
    }

    fn config_of(cert: &str, key: &str, ca: Option<&str>) -> Result<ServerConfig, String> {
        let ca = ca.map(|ca| (Path::new("ca.pem"), ca.as_bytes()));
        server_config(
            (Path::new("cert.pem"), cert.as_bytes()),
            (Path::new("key.pem"), key.as_bytes()),
            ca,
        )
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_the_name_of_its_file() {
        let (cert, key) = made();
        let (_, other_key) = made();
        assert!(config_of(&cert, &key, None).is_ok());
        assert!(config_of(&cert, &key, Some(&cert)).is_ok());
        for (cert, key, ca, file) in [
            ("", key.as_str(), None, "cert.pem: no certificate"),
            (&cert, "", None, "key.pem: no private key"),
            (&cert, &other_key, None, "cert.pem with key.pem"),
            (&cert, &key, Some("x"), "ca.pem: no certificate"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &key,
                None,
                "cert.pem with key.pem",
            ),
        ] {
            let why = config_of(cert, key, ca).unwrap_err();
            assert!(why.contains(file), "{why}");
        }
    }

    #[test]
    fn a_reload_takes_new_files_and_keeps_the_old_ones_where_the_new_are_broken() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str, text: &str| {
            let path = dir.path().join(name);
            #[expect(clippy::disallowed_methods, reason = "the operator's own files, in a test")]
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let (cert, key) = made();
        let files = config::Tls {
            cert: place("cert.pem", &cert),
            key: place("key.pem", &key),
            ..config::Tls::default()
        };
        let tls = Tls::load(files).unwrap();
        let first = tls.current();
        place("key.pem", "broken");
        assert!(tls.reload().unwrap_err().contains("key.pem"));
        assert!(Arc::ptr_eq(&first, &tls.current()));
        let (cert, key) = made();
        place("cert.pem", &cert);
        place("key.pem", &key);
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.current()));
        assert!(
            Tls::load(config::Tls::default())
                .unwrap_err()
                .contains("tls.cert")
        );
    }
}
