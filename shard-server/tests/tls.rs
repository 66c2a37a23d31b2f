//! TLS on the real server: a client of another library, `redis-cli`, new certificates while it runs.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{Client, Server, command, free_port};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A directory with data and certificates.
struct Place {
    dir: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().expect("the test made what it takes"),
            port: free_port(0),
        };
        place.new_certificate();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a new certificate and its key; returns the certificate.
    fn new_certificate(&self) -> String {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("the test made what it takes");
        write(&self.path("key.pem"), &signing_key.serialize_pem());
        write(&self.path("cert.pem"), &cert.pem());
        cert.pem()
    }

    /// The server's command line, with these variables beside.
    fn command(&self, variables: &[(&str, &str)]) -> Command {
        let mut command = command(&self.path("data"), &[]);
        command
            .env("CORELANE_TLS__PORT", self.port.to_string())
            .env("CORELANE_TLS__CERT", self.path("cert.pem"))
            .env("CORELANE_TLS__KEY", self.path("key.pem"))
            .env("CORELANE_ADMIN__ENABLED", "false")
            .envs(variables.iter().copied());
        command
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }
}

#[expect(clippy::disallowed_methods, reason = "the operator's own files, in a test")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the test made what it takes");
}

/// Says `PING` to whoever shows a certificate that `trusted` signed; the answer, or `None` where that fails.
fn ping(address: SocketAddr, trusted: &str) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(trusted.as_bytes()).expect("the test made what it takes"))
        .expect("the test made what it takes");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the test made what it takes")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = ClientConnection::new(
        Arc::new(config),
        "localhost".try_into().expect("the test made what it takes"),
    )
    .expect("the test made what it takes");
    let socket = TcpStream::connect(address).expect("the test made what it takes");
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("the test made what it takes");
    let mut stream = StreamOwned::new(session, socket);
    pong(&mut stream).then_some(stream)
}

fn pong(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> bool {
    let mut heard = [0; 7];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut heard).is_ok() && heard == *b"+PONG\r\n"
}

#[test]
fn redis_cli_speaks_tls_beside_clear_text_and_a_drain_ends_both() {
    let place = Place::new();
    let server = Server::spawn(place.command(&[]));
    assert_eq!(server.client().say("SET k v"), "+OK\r\n");
    let said = Command::new("redis-cli")
        .args(["--tls", "--cacert"])
        .arg(place.path("cert.pem"))
        .args(["-h", "localhost", "-p", &place.port.to_string(), "GET", "k"])
        .output();
    match said {
        Ok(said) => assert_eq!(String::from_utf8_lossy(&said.stdout), "v\n", "{said:?}"),
        Err(error) => println!("redis-cli is not there: {error}"),
    }
    let mut plain = Client::connect(place.address());
    plain.write(b"PING\r\n");
    assert!(!plain.rest().starts_with(b"+PONG"), "no clear text on that port");
    let cert = std::fs::read_to_string(place.path("cert.pem")).unwrap();
    let mut idle = ping(place.address(), &cert).expect("it shows that certificate");
    server.stop();
    let mut rest = Vec::new();
    assert_eq!(
        idle.read_to_end(&mut rest).unwrap_or(0),
        0,
        "it was ended, in order"
    );
}

#[test]
fn sighup_shows_new_certificates_to_new_connections_and_keeps_the_old_connections() {
    let place = Place::new();
    let old = place.new_certificate();
    let server = Server::spawn(place.command(&[]));
    let mut before = ping(place.address(), &old).expect("it shows the first");
    write(&place.path("cert.pem"), "broken");
    server.signal("HUP");
    std::thread::yield_now();
    assert!(
        ping(place.address(), &old).is_some(),
        "what is broken is not taken"
    );
    let new = place.new_certificate();
    server.signal("HUP");
    let shown = (0..500).any(|_| ping(place.address(), &new).is_some());
    assert!(shown, "it shows the new one");
    assert!(ping(place.address(), &old).is_none());
    assert!(pong(&mut before), "who was there stays");
    server.stop();
}

#[test]
fn alone_it_serves_no_clear_text_and_a_silent_handshake_ends_in_time() {
    let place = Place::new();
    let variables = [
        ("CORELANE_TLS__ONLY", "true"),
        ("CORELANE_LIMITS__UNKNOWN_MS", "300"),
    ];
    let cert = place.new_certificate();
    let server = Server::spawn(place.command(&variables));
    assert_eq!(server.address, place.address(), "there is no other port");
    assert_eq!(
        Client::connect(place.address()).rest(),
        b"",
        "nobody waits for a hello for ever"
    );
    assert!(ping(place.address(), &cert).is_some());
    server.stop();
}

#[test]
fn where_clients_need_certificates_one_without_is_not_served() {
    let place = Place::new();
    let cert = place.new_certificate();
    let authority = place.path("cert.pem");
    let server = Server::spawn(place.command(&[("CORELANE_TLS__CLIENT_CA", authority.to_str().unwrap())]));
    assert!(ping(place.address(), &cert).is_none());
    assert_eq!(server.client().say("PING"), "+PONG\r\n");
    server.stop();
}
