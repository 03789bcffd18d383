//! TLS from files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::kit::{Device, alone, cru, have, run};

/// A certificate that is no authority, for the loopback.
const REQUEST: &str = "\
[req]
distinguished_name = name
x509_extensions = more
prompt = no
[name]
CN = localhost
[more]
basicConstraints = critical,CA:FALSE
subjectAltName = DNS:localhost,IP:127.0.0.1
";

/// A server that ends with the test, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to end.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_server_with_a_certificate_speaks_tls_and_only_to_those_who_trust_it() {
    if !have("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("request.cnf"), REQUEST).unwrap();
    let mut command = Command::new("openssl");
    alone(&mut command, folder.path());
    command.current_dir(folder.path()).args(["req", "-x509", "-nodes", "-config", "request.cnf"]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "3650"]);
    run(command.args(["-keyout", "key.pem", "-out", "cert.pem"])).ok();
    let (data, home) = (at("data"), at("home"));
    let mut command = cru(&home);
    command.args(["auth", "add-user", "--email", "a@example.org", "--json", "--data"]).arg(&data);
    let token = run(&mut command).ok().last()["token"].as_str().unwrap().to_owned();
    let mut command = cru(&home);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    command.arg("--tls-cert").arg(at("cert.pem")).arg("--tls-key").arg(at("key.pem"));
    let mut server = Ended(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("listening on "));
    let line = line.expect("the server says where it listens");
    let address = line.strip_prefix("listening on https://").expect("it speaks TLS").to_owned();
    let alice = Device::new("alice", at("home-a"), at("a"));
    alice.write("a.md", "a\n");
    let join = |trust: bool| {
        let mut command = alice.command();
        command.env("CRU_TOKEN", &token).args(["join", &format!("https://{address}/notes")]);
        command.arg(&alice.dir).arg("--yes");
        if trust {
            command.arg("--ca-file").arg(at("cert.pem"));
        }
        run(&mut command)
    };
    let stranger = join(false).code_in(&[1, 12, 13]);
    assert!(stranger.err.to_lowercase().contains("certificate"), "{}", stranger.told());
    join(true).ok();
}
