use std::io::{Read, Write};
use std::net::TcpStream;

use crucible_server::config::TlsFiles;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::client::{connect, read_reply};
use crate::running::Running;

#[test]
fn requests_in_flight_finish_and_new_ones_are_not_taken() {
    let mut server = Running::start();
    let (_, token) = server.anna();
    let ask = server.ask("POST", "/api/sync/notes").token(token.reveal());
    let mut held = ask.cbor("wait").open();
    server.engine.door.wait_for(1);
    let mut idle = connect(server.address);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reader = std::io::BufReader::new(idle);
    assert_eq!(read_reply(&mut reader, "GET").unwrap().status, 200);
    server.begin_stop();
    // The idle connection is closed at once: then the server is going down for certain.
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    // Long enough for a server that does not wait to have cut the request that is held.
    for _ in 0..500 {
        assert!(TcpStream::connect(server.address).is_err(), "the listener is closed");
    }
    server.engine.door.open();
    let reply = read_reply(&mut held, "POST").unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"WAIT".as_slice()));
    server.join();
}

#[test]
fn a_request_that_never_ends_does_not_keep_the_server_up() {
    let mut server = Running::with(|config| config.limits.shutdown_ms = 20);
    let (_, token) = server.anna();
    let ask = server.ask("POST", "/api/sync/notes").token(token.reveal());
    let ask = ask.header("Content-Type", "application/cbor").header("Content-Length", "100");
    let mut stream = ask.body("begun").open();
    server.begin_stop();
    server.join();
    assert!(read_reply(&mut stream, "POST").is_none());
}

#[test]
fn one_connection_carries_many_requests() {
    let server = Running::start();
    let (_, token) = server.anna();
    let mut stream = std::io::BufReader::new(connect(server.address));
    for _ in 0..3 {
        let request = format!(
            "POST /api/sync/notes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/cbor\r\nContent-Length: 4\r\n\r\npull",
            token.reveal()
        );
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        assert_eq!(read_reply(&mut stream, "POST").unwrap().body, b"PULL");
    }
}

#[test]
fn connections_beyond_the_bound_wait_for_their_turn() {
    let server = Running::with(|config| config.limits.connections_max = 1);
    let first = connect(server.address);
    let mut second = connect(server.address);
    second
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    second.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    assert!(second.read(&mut [0; 1]).is_err(), "answered while the server is full");
    drop(first);
    second.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let reply = read_reply(&mut std::io::BufReader::new(second), "GET").unwrap();
    assert_eq!(reply.status, 200);
}

#[test]
fn the_server_speaks_tls_from_files() {
    let files = Running::tls_files();
    let server = Running::with(|config| config.tls = Some(files.clone()));
    let (_, token) = server.anna();
    let pem = std::fs::read(&files.certificates).unwrap();
    let root = Certificate::from_pem(&pem).unwrap();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root])).build();
    let agent = ureq::Agent::config_builder().tls_config(tls).build().new_agent();
    let url = format!("https://{}/api/vaults", server.address);
    let bearer = format!("Bearer {}", token.reveal());
    let mut reply = agent.get(&url).header("Authorization", bearer).call().unwrap();
    assert!(reply.body_mut().read_to_string().unwrap().contains("\"notes\""));
    // A client that does not speak TLS gets nothing, and harms nobody.
    let mut plain = connect(server.address);
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let read = plain.read_to_end(&mut answer);
    assert!(read.is_err() || !answer.starts_with(b"HTTP"));
    assert!(agent.get(format!("https://{}/healthz", server.address)).call().is_ok());
}

#[test]
fn tls_files_that_do_not_work_are_said_before_the_first_connection() {
    let files = Running::tls_files();
    for (certificates, key, said) in [
        (files.certificates.clone(), files.certificates.clone(), "cannot read the key"),
        (files.key.clone(), files.key.clone(), "certificate"),
        ("nowhere.pem".into(), files.key.clone(), "cannot read the certificates"),
    ] {
        let error = refused(TlsFiles { certificates, key });
        assert!(error.contains(said), "{error}");
    }
}

fn refused(files: TlsFiles) -> String {
    use crucible_server::state::{Backends, Server};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.db");
    let backends = Backends {
        accounts: crucible_store::accounts::Accounts::open(&path, [1; 32]).unwrap(),
        rounds: std::sync::Arc::new(crate::fakes::FakeEngine::default()),
        archive: std::sync::Arc::new(crate::fakes::MemoryVaults::default()),
        blobs: std::sync::Arc::new(crate::fakes::MemoryBlobs::default()),
        live: crate::running::live(dir.path()),
    };
    let config = crucible_server::config::ServerConfig {
        url_for_others: None,
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: Some(files),
        hosts: Vec::new(),
        client_address: crucible_server::config::ClientAddress::Peer,
        limits: crate::running::limits(),
    };
    let server = Server::new(config, backends, std::sync::Arc::new(|| 0));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = crucible_server::serve(listener, server, std::future::pending()).await;
        served.unwrap_err().to_string()
    })
}
