//! `cru serve`: the server alone.

use std::path::Path;

use crucible_server::config::TlsFiles;
use crucible_store::accounts::Accounts;
use crucible_trust::name::VaultName;
use crucible_trust::rights::Rights;
use serde_json::json;

use crate::args::Serve;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::MARK;
use crate::service::{self, Plan, Running};
use crate::signals::Stop;

/// Whose the first device is, until somebody says otherwise.
const FIRST_USER: &str = "owner@localhost";
/// What the first vault is called in the first join line.
const FIRST_VAULT: &str = "notes";

/// Serves until it is told to stop.
pub fn run(args: &Serve, context: &Context) -> Outcome {
    let stopped = context.signals.take();
    let path = |path: &Path| context.path(path);
    let tls = args
        .tls_cert
        .as_deref()
        .zip(args.tls_key.as_deref())
        .map(|(certificates, key)| TlsFiles { certificates: path(certificates), key: path(key) });
    let running = Running::start(Plan {
        data: path(&args.data),
        listen: args.listen,
        tls,
        hosts: args.host.clone(),
        behind_proxy: args.behind_proxy,
    })?;
    let output = &context.output;
    let bare = args.tls_cert.is_none() && !args.behind_proxy;
    if bare && !running.address.ip().is_loopback() {
        output.note(
            "whoever is on this network could read along: for one you do not trust, give it a \
             certificate (--tls-cert), or put a proxy that speaks TLS before it",
        );
    }
    output.line(format!("listening on {}", running.url()))?;
    output.value(&json!({ "type": "listening", "url": running.url() }))?;
    let accounts = running.accounts()?;
    if is_new(&accounts)? {
        let user = service::user(&accounts, FIRST_USER)?;
        let vault = VaultName::new(FIRST_VAULT).expect("the name is one");
        let url = running.url_for_others();
        let link = service::join_link(&accounts, &user, Rights::ALL, &url, &vault)?;
        output.value(&json!({ "type": "invitation", "link": link.to_string() }))?;
        output.line(format!("first device: {}", output.paint(MARK, format!("cru join {link}"))))?;
        output.note("good once, for ten minutes; start again for another");
    }
    drop(accounts);
    loop {
        match stopped.recv_timeout(std::time::Duration::from_millis(500)) {
            Ok(stop) => {
                running.stop()?;
                // Ctrl-C is how a server is stopped by hand: nothing went wrong.
                return Ok(match stop {
                    Stop::Interrupt | Stop::Terminate => Exit::Ok,
                });
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) if running.has_ended() => {
                running.stop()?;
                return Err(Failure::failed("the server ended by itself"));
            }
            Err(_) => {}
        }
    }
}

/// Whether nobody has got in yet.
fn is_new(accounts: &Accounts) -> Outcome<bool> {
    for user in accounts.users(None, 2)? {
        let is_first = user.email.as_str() == FIRST_USER;
        if !is_first || !accounts.devices(user.id, None, 1)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}
