//! The part of docs/bench.md about live sessions: tables, aims, what falls short. Writing into a
//! `String` cannot fail, which is why the results of `write!` are dropped here.

use std::fmt::Write as _;
use std::time::Duration;

use super::browser::Page;
use super::falls::Loss;
use super::load::{Cost, Load};
use super::side::Side;
use super::{Both, IDLE_ROOMS, hocuspocus, ours};
use crate::bench::live_part::HEADING;
use crate::bench::report::falls_short;

/// What the rooms that nobody types in may take.
const IDLE_KIB_MAX: u64 = 150_000_000 / 1024;
/// How long after a cut all documents are to be equal.
const CONVERGED_MAX: Duration = Duration::from_millis(1_500);

/// Everything that was measured.
#[derive(Default)]
pub struct Findings {
    /// The loads, each several times.
    pub loads: Vec<(&'static Load, Both<Cost>)>,
    /// Memory of idle rooms with a reader in each, in KiB.
    pub idle: Both<u64>,
    /// The same of `cru` with nobody in them.
    pub empty: Option<u64>,
    /// From the return of the network until all documents were equal.
    pub cut: Both<Duration>,
    /// What a power cut of the server cost.
    pub kill: Both<Loss>,
    /// The page.
    pub page: Option<Page>,
    /// What could not be measured, and why.
    pub troubles: Vec<String>,
}

const OURS: &str = <ours::Cru as Side>::NAME;
const THEIRS: &str = <hocuspocus::Hocuspocus as Side>::NAME;

/// The part, heading and all.
pub fn render(findings: &Findings) -> String {
    let mut text = format!("{HEADING}{INTRODUCTION}");
    loads(&mut text, findings);
    falls(&mut text, findings);
    page(&mut text, findings);
    shortfalls(&mut text, findings);
    text
}

const INTRODUCTION: &str = "
Measured by `cargo xtask bench-live`; nothing here is typed by hand. To do it again:

```
cargo xtask bench-live --hocuspocus             # in turns with Hocuspocus, which npm installs
cargo xtask bench-live                          # cru alone
cargo xtask bench-live --hocuspocus --only cut  # a first look at one row; nothing is written
```

One generator on one thread loads the real `cru` and, in turns with it, Hocuspocus 4.7.0 from npm
with its SQLite extension and its defaults; each turn has a server of its own, and the median of
the turns is shown. A typed character is a frame of its own on both sides. *Fan-out* is the time
from a writer's send until a reader has received a frame with the edit, *delivered* the share of
all (edit, reader) pairs that came. *Ack* is the time until the server says that it has an edit:
for `cru` it is on disk then (and only then told to others), for Hocuspocus it is in memory. *CPU*
is user and system time of all processes of the server during the load, *memory* what of them is
resident at its end.

Writers strike in step (the worst moment for whoever must carry it) but where it says *apart*.
";

fn loads(text: &mut String, findings: &Findings) {
    text.push_str(
        "\n### Loads\n\n\
         | load | server | fan-out p50 | p99 | delivered | Ack p50 | p99 | CPU | memory |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for (load, costs) in &findings.loads {
        for (server, costs) in [(OURS, &costs.ours), (THEIRS, &costs.theirs)] {
            let Some(cost) = median_cost(costs) else { continue };
            let (p50, p99) = (ms(cost.fan_out.0), ms(cost.fan_out.1));
            let (ack50, ack99) = (ms(cost.ack.0), ms(cost.ack.1));
            let (cpu, memory) = (ms(cost.cpu), megabytes(cost.rss_kib));
            let (name, delivered) = (load.name, cost.delivered);
            let _ = writeln!(
                text,
                "| {name} | {server} | {p50} | {p99} | {delivered:.1} % | {ack50} | {ack99} \
                 | {cpu} | {memory} |",
            );
        }
    }
}

fn falls(text: &mut String, findings: &Findings) {
    let _ = write!(
        text,
        "\n### Rooms, cuts and falls\n\n\
         A cut ends the connections of ten people, all typing before it and through it; each then \
         waits as\nits published page does (Hocuspocus' provider: a second before it tries at all). \
         After `kill -9` under\nload a fresh reader sees what the server still has of what it said \
         it had; nobody sends it again.\n\n| | {OURS} | {THEIRS} |\n|---|---:|---:|\n",
    );
    let mut row = |what: &str, ours: String, theirs: String| {
        if !ours.is_empty() || !theirs.is_empty() {
            let _ = writeln!(text, "| {what} | {ours} | {theirs} |");
        }
    };
    let memory = |kib: &[u64]| median(kib).map_or_else(String::new, megabytes);
    let rooms = format!("{IDLE_ROOMS} idle rooms, a reader in each: memory");
    row(&rooms, memory(&findings.idle.ours), memory(&findings.idle.theirs));
    let empty = findings.empty.map_or_else(String::new, megabytes);
    row(&format!("{IDLE_ROOMS} idle rooms, nobody in them: memory"), empty, String::new());
    let each = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times.into_iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect::<Vec<_>>()
    };
    let cut = |times: &[Duration]| match each(times) {
        times if times.is_empty() => String::new(),
        times => format!("{} s", times.join(" / ")),
    };
    let what = "1 s cut, from its end until all documents are equal (each turn)";
    row(what, cut(&findings.cut.ours), cut(&findings.cut.theirs));
    let sum = |losses: &[Loss], of: fn(&Loss) -> u64| match losses {
        [] => String::new(),
        losses => losses.iter().map(of).sum::<u64>().to_string(),
    };
    let Both { ours, theirs } = &findings.kill;
    let rounds = ours.len().max(theirs.len());
    let what = format!("kill -9 under load, {rounds} rounds: edits said to be there");
    row(&what, sum(ours, |loss| loss.acknowledged), sum(theirs, |loss| loss.acknowledged));
    row("of those lost", sum(ours, |loss| loss.lost), sum(theirs, |loss| loss.lost));
    row("characters doubled", sum(ours, |loss| loss.doubled), sum(theirs, |loss| loss.doubled));
    let back = |losses: &[Loss]| match losses.iter().map(|loss| loss.back).max() {
        Some(back) => format!("{:.1} s", back.as_secs_f64()),
        None => String::new(),
    };
    row("typing lost at most", back(ours), back(theirs));
}

fn page(text: &mut String, findings: &Findings) {
    let Some(page) = &findings.page else { return };
    let (cold, warm) = (median_ms(&page.cold_ms), median_ms(&page.warm_ms));
    let (kilobytes, turns) = (page.bytes as f64 / 1e3, page.cold_ms.len());
    let _ = write!(
        text,
        "\n### The page\n\n\
         In headless Chromium on the same machine: from the navigation until the editor takes keys, \
         the median\nof {turns}; and what leaves the browser for a character typed at a hundred \
         words a minute, with the\nWebSocket's own bytes.\n\n| | |\n|---|---:|\n\
         | a note of {kilobytes:.0} kB, cold: empty cache | {cold:.0} ms |\n\
         | the same, warm | {warm:.0} ms |\n\
         | a typed character: edits | {:.0} B |\n\
         | with where the caret is | {:.0} B |\n",
        page.edits_per_char, page.all_per_char,
    );
}

fn shortfalls(text: &mut String, findings: &Findings) {
    let mut short = Vec::new();
    for (load, costs) in &findings.loads {
        let Some(ours) = median_cost(&costs.ours) else { continue };
        let least = costs.ours.iter().map(|cost| cost.delivered).fold(100.0, f64::min);
        if least < 100.0 {
            short.push(format!("{}: {least:.2} % delivered in one turn", load.name));
        }
        let Some(theirs) = median_cost(&costs.theirs) else { continue };
        let aims = [
            ("p99 of fan-out", ours.fan_out.1, theirs.fan_out.1, load.p99_max),
            ("CPU", ours.cpu, theirs.cpu, load.cpu_max),
        ];
        for (what, ours, theirs, aim) in aims {
            let ratio = ours.as_secs_f64() / theirs.as_secs_f64().max(1e-6);
            if let Some(aim) = aim.filter(|aim| ratio > *aim) {
                let name = load.name;
                short.push(format!("{name}: {ratio:.2} × {THEIRS}' {what}, aim {aim:.2}"));
            }
        }
    }
    let idle = median(&findings.idle.ours).into_iter().chain(findings.empty).max();
    if let Some(idle) = idle.filter(|idle| *idle > IDLE_KIB_MAX) {
        let (idle, aim) = (megabytes(idle), megabytes(IDLE_KIB_MAX));
        short.push(format!("{IDLE_ROOMS} idle rooms: {idle}, aim {aim}"));
    }
    let slowest = findings.cut.ours.iter().max();
    if let Some(slowest) = slowest.filter(|slowest| **slowest > CONVERGED_MAX) {
        let (slowest, aim) = (slowest.as_secs_f64(), CONVERGED_MAX.as_secs_f64());
        short.push(format!("1 s cut: equal after {slowest:.2} s in one turn, aim {aim} s"));
    }
    for loss in findings.kill.ours.iter().filter(|loss| loss.lost + loss.doubled > 0) {
        let Loss { lost, doubled, .. } = loss;
        short.push(format!("kill -9: {lost} acknowledged edits lost, {doubled} doubled, aim 0"));
    }
    falls_short(text, "### What of live sessions falls short", &short, &findings.troubles);
}

/// The median of each figure.
fn median_cost(costs: &[Cost]) -> Option<Cost> {
    let time = |of: fn(&Cost) -> Duration| median(&costs.iter().map(of).collect::<Vec<_>>());
    Some(Cost {
        fan_out: (time(|cost| cost.fan_out.0)?, time(|cost| cost.fan_out.1)?),
        ack: (time(|cost| cost.ack.0)?, time(|cost| cost.ack.1)?),
        delivered: costs.iter().map(|cost| cost.delivered).fold(100.0, f64::min),
        cpu: time(|cost| cost.cpu)?,
        rss_kib: median(&costs.iter().map(|cost| cost.rss_kib).collect::<Vec<_>>())?,
    })
}

fn median<T: Ord + Copy>(values: &[T]) -> Option<T> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn median_ms(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 100.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

fn megabytes(kib: u64) -> String {
    format!("{:.0} MB", kib as f64 * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Findings, render};
    use crate::bench_live::load::Cost;
    use crate::bench_live::{Both, LOADS};

    fn check(ours_ms: u64, theirs_ms: u64, delivered: f64) -> String {
        let cost = |ms| {
            let p99 = Duration::from_millis(ms);
            Cost { fan_out: (p99, p99), delivered, ..Cost::default() }
        };
        let costs = Both { ours: vec![cost(ours_ms)], theirs: vec![cost(theirs_ms)] };
        render(&Findings { loads: vec![(&LOADS[0], costs)], ..Findings::default() })
    }

    #[test]
    fn what_misses_its_aim_is_said() {
        assert!(check(6, 10, 100.0).contains("0.60 × Hocuspocus' p99 of fan-out, aim 0.50"));
        assert!(check(5, 10, 100.0).contains("Nothing of what was measured."));
        assert!(check(5, 10, 99.5).contains("99.50 % delivered"));
    }
}
