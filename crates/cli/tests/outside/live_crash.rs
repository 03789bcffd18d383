//! `kill -9` under a live session: what was acknowledged stands in the note exactly once, whatever
//! was killed and when.

use std::sync::Arc;
use std::time::Duration;

use crucible_live_client::http::Account;
use crucible_live_client::running::{Place, Running, Victim};
use crucible_live_client::writer::{Faults, Ledger, Orders, Writer};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::kit::{Dice, cru_binary};

const WRITERS: usize = 5;
/// Between two words of one writer: as a page sends them.
const PACE: Duration = Duration::from_millis(30);
/// A round has at most so many acknowledged words.
const ROUND: usize = 30;

/// `CRASH_ROUNDS`, or a hundred.
fn rounds() -> usize {
    std::env::var("CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(100)
}

#[test]
fn no_acknowledged_word_is_lost_or_doubled_when_the_server_is_killed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(killed(rounds()));
}

#[test]
fn what_was_saved_is_in_the_file_when_the_server_was_stopped() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(stopped());
}

async fn stopped() {
    let folder = tempfile::Builder::new().prefix("cru-stop-live-").tempdir().unwrap();
    let place = Place::below(folder.path(), cru_binary().as_ref());
    std::fs::create_dir_all(&place.vault).unwrap();
    let file = place.vault.join("note.md");
    std::fs::write(&file, "begin\n").unwrap();
    let running = place.start(0).unwrap();
    let account =
        Account::pair(running.address, &running.code, &"c0ffee00".repeat(8)).await.unwrap();
    let session = account.open("vault", "note.md").await.unwrap();
    let ledger = Arc::new(Ledger::default());
    let (_server, at) = watch::channel(Some(running.address));
    let (stop, stopped) = watch::channel(false);
    let writer = Writer::new("w0", &account.token, session, Arc::clone(&ledger));
    let writer = tokio::spawn(writer.run(Orders { server: at, stop: stopped, pace: PACE }));
    ledger.until_acks(5).await;
    stop.send(true).unwrap();
    writer.await.unwrap().unwrap();
    let known = ledger.words();
    running.stop().unwrap();
    let on_disk = std::fs::read_to_string(&file).unwrap();
    assert_eq!(known.faults_in(&on_disk), Faults::default(), "{on_disk:?}\n{}", log(&place));
}

async fn killed(rounds: usize) {
    let folder = tempfile::Builder::new()
        .prefix("cru-crash-live-")
        .disable_cleanup(std::env::var_os("CRASH_KEEP").is_some())
        .tempdir()
        .unwrap();
    let place = Place::below(folder.path(), cru_binary().as_ref());
    std::fs::create_dir_all(&place.vault).unwrap();
    let file = place.vault.join("note.md");
    std::fs::write(&file, "begin\n").unwrap();
    let mut running = place.start(0).unwrap();
    let device = "c0ffee00".repeat(8);
    let account = Account::pair(running.address, &running.code, &device).await.unwrap();
    let session = account.open("vault", "note.md").await.unwrap();
    let ledger = Arc::new(Ledger::default());
    let (server, at) = watch::channel(Some(running.address));
    let (stop, stopped) = watch::channel(false);
    let mut writers = JoinSet::new();
    for no in 0..WRITERS {
        let name = format!("w{no}");
        let writer = Writer::new(&name, &account.token, session.clone(), Arc::clone(&ledger));
        let orders = Orders { server: at.clone(), stop: stopped.clone(), pace: PACE };
        writers.spawn(writer.run(orders));
    }
    let seed = u64::from(std::process::id());
    let mut dice = Dice(seed);
    for round in 0..rounds {
        let more = 1 + dice.below(ROUND) as u64;
        tokio::select! {
            () = ledger.until_acks(ledger.acks() + more) => {}
            Some(ended) = writers.join_next() => panic!("seed {seed}, round {round}: {ended:?}"),
        }
        let victim = [Victim::Group, Victim::Server, Victim::Documents][dice.below(3)];
        running = kill(running, victim, &place, &server);
        let what = format!("seed {seed}, round {round}: {victim:?} killed");
        // What was acknowledged until now is there, before anybody had time to send it again.
        let known = ledger.words();
        let text = text(&account, &session.id, &what).await;
        assert_eq!(known.faults_in(&text), Faults::default(), "{what}\n{}", log(&place));
    }
    let joins = ledger.words().joins;
    stop.send(true).unwrap();
    while let Some(ended) = writers.join_next().await {
        ended.unwrap().unwrap_or_else(|error| panic!("seed {seed}: {error:#}\n{}", log(&place)));
    }
    let known = ledger.words();
    assert_eq!(
        known.typed.len(),
        known.acknowledged.len(),
        "all were sent again until they were in"
    );
    let whole = account.text(&session.id).await.unwrap();
    assert_eq!(known.faults_in(&whole), Faults::default(), "seed {seed}: the session's text");
    let end = format!("/api/sessions/{}/end", session.id);
    assert_eq!(account.ask("POST", &end, None).await.unwrap().status, 202);
    let mut on_disk = String::new();
    while on_disk != whole {
        on_disk = std::fs::read_to_string(&file).unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(known.faults_in(&on_disk), Faults::default(), "seed {seed}: the file");
    running.stop().unwrap();
    println!(
        "{rounds} rounds: {} words acknowledged, 0 lost, 0 doubled; {joins} joins, refused: {:?}",
        known.acknowledged.len(),
        known.refusals,
    );
}

/// Kills what is to be killed; gives the server, started again if it was.
fn kill(
    running: Running,
    victim: Victim,
    place: &Place,
    server: &watch::Sender<Option<std::net::SocketAddr>>,
) -> Running {
    if victim == Victim::Documents && running.kill_documents().is_ok() {
        return running;
    }
    let port = running.address.port();
    server.send_replace(None);
    running.kill(victim == Victim::Group).unwrap();
    let running = place.start(port).unwrap();
    server.send_replace(Some(running.address));
    running
}

/// The session's text; asked again while its document is being opened again.
async fn text(account: &Account, session: &str, what: &str) -> String {
    let path = format!("/api/sessions/{session}/text");
    loop {
        let answer = account.ask("GET", &path, None).await.unwrap();
        match answer.status {
            200 => return String::from_utf8(answer.body).unwrap(),
            429 | 503 => {}
            status => panic!("{what}: status {status}: {}", String::from_utf8_lossy(&answer.body)),
        }
    }
}

fn log(place: &Place) -> String {
    let log = std::fs::read_to_string(place.home.join("server.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
