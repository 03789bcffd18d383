//! What a cut of the network and a power cut of the server cost those who type.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use crucible_live_client::connection::fresh_peer;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::side::{Came, Client, Setting, Side, Version};

/// Who types through a cut.
const PEOPLE: usize = 10;
/// Between two characters of one of them.
const PACE: Duration = Duration::from_millis(100);
/// Everybody has been typing this long when the network goes, and this long it is gone.
const SECOND: Duration = Duration::from_secs(1);
/// Who has not converged by then never does.
const PATIENCE: Duration = Duration::from_secs(40);

/// The network, and whether people still type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Net {
    Up,
    Cut,
    /// Back; nobody types any more.
    Back,
    /// Everybody has everything.
    Done,
}

/// Cuts everybody's connection for a second while all type; gives how long after it is back all
/// documents are equal.
pub async fn cut<S: Side>(setting: &Setting, folder: &Path) -> Result<Duration> {
    let server = S::start(setting, folder, 1).await?;
    let (net, line) = watch::channel(Net::Up);
    // How far everybody's own edits go, and how many have all of them.
    let typed = Rc::new(RefCell::new(Version::new()));
    let (equal, mut equals) = watch::channel(0);
    let equal = Rc::new(equal);
    let mut people = Vec::new();
    for no in 0..PEOPLE {
        let client = server.join(0).await?;
        let first = Instant::now() + PACE.mul_f64(no as f64 / PEOPLE as f64);
        let (typed, equal, line) = (Rc::clone(&typed), Rc::clone(&equal), line.clone());
        let dice = fresh_peer() as f64 / u64::MAX as f64;
        people.push(tokio::task::spawn_local(through(client, first, line, typed, equal, dice)));
    }
    tokio::time::sleep(SECOND).await;
    net.send_replace(Net::Cut);
    tokio::time::sleep(SECOND).await;
    net.send_replace(Net::Back);
    let back = Instant::now();
    let all = equals.wait_for(|equal| *equal == PEOPLE);
    let came = tokio::time::timeout(PATIENCE, all).await.map(|all| all.map(drop));
    let took = back.elapsed();
    net.send_replace(Net::Done);
    let mut texts = Vec::new();
    for person in people {
        texts.push(person.await??);
    }
    came.context("the documents never became equal")??;
    ensure!(texts.windows(2).all(|two| two[0] == two[1]), "equal versions, other texts");
    Ok(took)
}

/// Somebody who types until the network is back; gives the text.
async fn through<C: Client>(
    mut client: C,
    first: Instant,
    mut line: watch::Receiver<Net>,
    typed: Rc<RefCell<Version>>,
    equal: Rc<watch::Sender<usize>>,
    mut dice: f64,
) -> Result<String> {
    let mut tick = tokio::time::interval_at(first.into(), PACE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Vec::new();
    let mut tries = 0;
    let mut next_try: Option<Instant> = None;
    let mut has_all = false;
    loop {
        let now = *line.borrow_and_update();
        if now == Net::Back && next_try.is_none() && !has_all {
            client.take_in(std::mem::take(&mut heard))?;
            let here = client.version();
            let has = |(peer, end): (&u64, &u64)| here.get(peer).is_some_and(|here| here >= end);
            if typed.borrow().iter().all(has) {
                has_all = true;
                equal.send_modify(|equal| *equal += 1);
            }
        }
        let trying = next_try.unwrap_or_else(|| Instant::now() + PATIENCE);
        tokio::select! {
            changed = line.changed() => {
                changed?;
                match *line.borrow() {
                    Net::Cut => {
                        client.cut();
                        (tries, next_try) = (1, Some(Instant::now() + C::patience(0, roll(&mut dice))));
                    }
                    Net::Done => return Ok(client.text()),
                    Net::Up | Net::Back => {}
                }
            }
            came = client.next() => if let Came::Edits(edits) = came? { heard.push(edits); },
            () = tokio::time::sleep_until(trying.into()), if next_try.is_some() => {
                if now == Net::Cut {
                    next_try = Some(Instant::now() + C::patience(tries, roll(&mut dice)));
                    tries += 1;
                } else {
                    client.take_in(std::mem::take(&mut heard))?;
                    client.join_again().await?;
                    next_try = None;
                }
            }
            _ = tick.tick(), if matches!(now, Net::Up | Net::Cut) => {
                client.take_in(std::mem::take(&mut heard))?;
                let end = client.type_one().await?;
                typed.borrow_mut().insert(client.peer(), end);
            }
        }
    }
}

/// From 0 to 1, another one each time.
fn roll(dice: &mut f64) -> f64 {
    *dice = (*dice + 0.618_034).fract();
    *dice
}

/// What of the edits that a server said it had was gone after it had lost its power.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loss {
    /// Edits that were said to be there.
    pub acknowledged: u64,
    /// Those of them that were not.
    pub lost: u64,
    /// Typing that was lost, from the oldest such edit to the end.
    pub back: Duration,
    /// Characters there more than once.
    pub doubled: u64,
}

/// Ends of acknowledged edits by who made them, and when each was sent.
type Acked = HashMap<u64, Vec<(u64, Instant)>>;

/// Kills the server while people type; a fresh reader sees what it still has when it is back.
pub async fn kill<S: Side>(
    setting: &Setting,
    folder: &Path,
    typing: &[Duration],
) -> Result<Vec<Loss>> {
    let mut server = S::start(setting, folder, typing.len()).await?;
    let mut losses = Vec::new();
    for (note, typing) in typing.iter().enumerate() {
        let acked = Rc::new(RefCell::new(Acked::new()));
        let mut people = Vec::new();
        for no in 0..PEOPLE / 2 {
            let client = server.join(note).await?;
            let first = Instant::now() + PACE.mul_f64(no as f64 / PEOPLE as f64);
            people.push(tokio::task::spawn_local(until_killed(client, first, Rc::clone(&acked))));
        }
        tokio::time::sleep(*typing).await;
        let fallen = Instant::now();
        server = server.fall().await?;
        for person in people {
            person.await??;
        }
        let reader = server.join(note).await?;
        let (has, text) = (reader.version(), reader.text());
        let acked = acked.borrow();
        let mut loss = Loss::default();
        for (peer, edits) in acked.iter() {
            let kept = has.get(peer).copied().unwrap_or(0);
            let gone = edits.iter().filter(|(end, _)| *end > kept);
            loss.acknowledged += edits.len() as u64;
            loss.lost += gone.clone().count() as u64;
            let oldest = gone.map(|(_, sent)| fallen - *sent).max();
            loss.back = loss.back.max(oldest.unwrap_or_default());
        }
        let typed: u64 = acked.keys().filter_map(|peer| has.get(peer)).sum();
        let shown = text.matches('x').count() as u64;
        loss.doubled = shown.saturating_sub(typed);
        losses.push(loss);
    }
    Ok(losses)
}

/// Types until the connection ends; leaves the ends of what was acknowledged, with when it was sent.
async fn until_killed<C: Client>(
    mut client: C,
    first: Instant,
    acked: Rc<RefCell<Acked>>,
) -> Result<()> {
    let mut tick = tokio::time::interval_at(first.into(), PACE);
    let mut sent = Vec::new();
    let peer = client.peer();
    loop {
        tokio::select! {
            // The end of the connection is the end of the story.
            came = client.next() => match came {
                Ok(Came::Acked(upto)) => {
                    let (answered, rest) = sent.into_iter().partition(|(end, _)| *end <= upto);
                    sent = rest;
                    let answered: Vec<(u64, Instant)> = answered;
                    acked.borrow_mut().entry(peer).or_default().extend(answered);
                }
                Ok(Came::Edits(_) | Came::Other) => {}
                Err(_) if acked.borrow().contains_key(&peer) => return Ok(()),
                Err(error) => bail!(error.context("it fell before anything was acknowledged")),
            },
            _ = tick.tick() => match client.type_one().await {
                Ok(end) => sent.push((end, Instant::now())),
                Err(_) => return Ok(()),
            }
        }
    }
}
