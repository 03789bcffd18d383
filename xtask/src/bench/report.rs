//! docs/bench.md: the tables, the aims, and what falls short of them. No dates and no machine
//! names, so that two runs differ only in what was measured. Writing into a `String` cannot fail,
//! which is why the results of `write!` are dropped here.

use std::fmt::Write as _;
use std::time::Duration;

use super::edits::Operation;
use super::extras::{History, MergeTime, Scan};
use super::tool::{Cost, Row};
use super::{Findings, TOOLS};

/// What is to be reached on the real corpus: payload bytes, and processor time beside rsync's.
struct Aim {
    operation: Operation,
    payload: u64,
    requests: Option<u64>,
    cpu: f64,
}

const AIMS: &[Aim] = &[
    Aim { operation: Operation::First, payload: 9_900_000, requests: None, cpu: 1.2 },
    Aim { operation: Operation::NoChange, payload: 600, requests: Some(1), cpu: 1.0 },
    Aim { operation: Operation::OneEdit, payload: 1_200, requests: Some(1), cpu: 1.0 },
    Aim { operation: Operation::HundredEdits, payload: 16_000, requests: Some(1), cpu: 1.2 },
    Aim { operation: Operation::RenameFolder, payload: 1_500, requests: Some(1), cpu: 0.5 },
];

/// A one-shot command may add this for its headers and token.
const ONE_SHOT: u64 = 400;
/// The aims for bytes were set on a folder of this many notes.
const AIMED_NOTES: usize = 9_753;

/// The whole report.
pub fn render(findings: &Findings, peers: bool) -> String {
    let mut text = String::from(INTRODUCTION);
    for (name, files, bytes, renamed) in &findings.sets {
        let megabytes = *bytes as f64 / 1e6;
        let _ = write!(text, "\n## {name}: {files} files, {megabytes:.1} MB\n\n");
        if let Some(renamed) = renamed {
            let _ = writeln!(text, "The renamed folder holds {renamed} files.\n");
        }
        table(&mut text, findings, name, peers);
    }
    growth(&mut text, findings);
    shared(&mut text, &findings.nothing_shared);
    scans(&mut text, &findings.scans);
    if let Some(history) = &findings.history {
        history_size(&mut text, history);
    }
    merge_times(&mut text, &findings.merges);
    shortfalls(&mut text, findings);
    text
}

const INTRODUCTION: &str = "\
# What it costs

Measured by `cargo xtask bench`; nothing here is typed by hand. To do it again:

```
cargo xtask bench                                   # generated notes, cru alone
cargo xtask bench --peers                           # beside rsync, unison, git and syncthing
cargo xtask bench --peers --corpus DIR              # and on a folder of your own
cargo xtask bench --corpus DIR --history FILE.jsonl # and the size of history beside git's pack
cargo xtask bench --quick                           # a first look
```

All tools carry the same change from one folder to another on the same machine, over the loopback,
in the same run; after each the two folders are compared byte for byte. *Wire* is what passed a
counting proxy (or a counting stand-in for ssh, without its cipher): headers and bodies, both
directions, without TCP's own. *Payload* is the bodies alone, as `cru sync --json` says. *CPU* is
user and system time of both sides, *× rsync* the same beside plain rsync's on the same line of
work. *Peak* is the larger resident size of the two sides. `cru` and git have a server in between,
so each change travels two legs; both are shown. Small operations are the mean of five.
";

fn table(text: &mut String, findings: &Findings, set: &str, peers: bool) {
    let ratio = if peers { " × rsync |" } else { "" };
    let rule = if peers { "---:|" } else { "" };
    let _ = writeln!(
        text,
        "| operation | tool | leg | wire | payload | requests | CPU |{ratio} peak | time |\n\
         |---|---|---|---:|---:|---:|---:|{rule}---:|---:|",
    );
    for operation in Operation::ALL {
        let rows = || {
            let here = |row: &&Row| row.set == set && row.operation == *operation;
            findings.rows.iter().filter(here)
        };
        let rsync = rows().find(|row| row.tool == "rsync").map(|row| row.cost.cpu);
        for tool in TOOLS {
            for row in rows().filter(|row| row.tool == *tool) {
                line(text, row, peers, rsync);
            }
        }
    }
}

fn line(text: &mut String, row: &Row, peers: bool, rsync: Option<Duration>) {
    let Cost { wire, payload, requests, cpu, near_peak_kib, far_peak_kib, wall } = row.cost;
    let count = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
    let payload = payload.map_or_else(String::new, bytes);
    let ratio = match (peers, rsync) {
        (false, _) => String::new(),
        (true, None) => " |".to_owned(),
        (true, Some(rsync)) => format!(" {:.2} |", times(cpu, rsync)),
    };
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {payload} | {} | {} |{ratio} {} | {} |",
        row.operation.name(),
        row.tool,
        row.leg,
        bytes(wire),
        count(requests),
        seconds(cpu),
        bytes(near_peak_kib.max(far_peak_kib) * 1024),
        seconds(wall),
    );
}

/// One edit in a large vault costs what it costs in a small one.
fn growth(text: &mut String, findings: &Findings) {
    let one_edit =
        |row: &&Row| row.tool == "cru" && row.operation == Operation::OneEdit && row.leg == "push";
    let rows: Vec<&Row> = findings.rows.iter().filter(one_edit).collect();
    if rows.len() < 2 {
        return;
    }
    text.push_str("\n## One edit as the vault grows\n\n");
    text.push_str("| set | payload | requests | CPU |\n|---|---:|---:|---:|\n");
    for row in rows {
        let payload = row.cost.payload.map_or_else(|| "unknown".to_owned(), bytes);
        let requests = row.cost.requests.unwrap_or(0);
        let _ =
            writeln!(text, "| {} | {payload} | {requests} | {} |", row.set, seconds(row.cost.cpu));
    }
}

fn shared(text: &mut String, costs: &[(String, Cost)]) {
    if costs.is_empty() {
        return;
    }
    text.push_str(
        "\n## One edit when nothing is shared\n\nThe server was put back to an older backup, so \
         the last root both sides knew is gone and the trees are walked.\nTwo edited notes \
         travel: the one the server lost and a new one.\n\n\
         | set | payload | wire | requests |\n|---|---:|---:|---:|\n",
    );
    for (set, cost) in costs {
        let payload = cost.payload.map_or_else(|| "unknown".to_owned(), bytes);
        let requests = cost.requests.unwrap_or(0);
        let _ = writeln!(text, "| {set} | {payload} | {} | {requests} |", bytes(cost.wire));
    }
}

fn scans(text: &mut String, scans: &[(String, Scan)]) {
    if scans.is_empty() {
        return;
    }
    text.push_str(
        "\n## Looking at an unchanged folder\n\n`cru status` beside `find -printf '%s %T@ %i'`, \
         which stats every file and does nothing else.\nThe best of five each.\n\n\
         | set | cru CPU | walk CPU | × | cru time | walk time |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for (set, Scan { ours, walk }) in scans {
        let time = |us: u64| seconds(Duration::from_micros(us));
        let _ = writeln!(
            text,
            "| {set} | {} | {} | {:.2} | {} | {} |",
            time(ours.cpu_us),
            time(walk.cpu_us),
            ours.cpu_us as f64 / walk.cpu_us.max(1) as f64,
            time(ours.wall_us),
            time(walk.wall_us),
        );
    }
}

fn history_size(text: &mut String, history: &History) {
    let History { steps, plain, ours, ours_gc, git, git_aggressive } = *history;
    let _ = write!(
        text,
        "\n## The size of history\n\nThe same {steps} states of real notes, one after another, \
         kept by a `cru` server (all its files, less\nthose of an empty one) and by git (its pack \
         alone).\n\n| kept by | bytes | of the plain texts |\n|---|---:|---:|\n",
    );
    let kept = [
        ("cru, as it arrived", ours),
        ("cru server gc", ours_gc),
        ("git gc", git),
        ("git gc --aggressive", git_aggressive),
    ];
    for (name, size) in kept {
        let share = 100.0 * size as f64 / plain.max(1) as f64;
        let _ = writeln!(text, "| {name} | {} | {share:.2} % |", bytes(size));
    }
    let _ = writeln!(text, "| plain texts | {} | 100 % |", bytes(plain));
}

fn merge_times(text: &mut String, merges: &[MergeTime]) {
    if merges.is_empty() {
        return;
    }
    text.push_str("\n## Large merges\n\n`cru merge-file`, the process included; MB/s of CPU.\n\n");
    text.push_str("| merge | time | CPU | MB/s | peak |\n|---|---:|---:|---:|---:|\n");
    for merge @ MergeTime { what, spent, .. } in merges {
        let (wall, cpu) =
            (Duration::from_micros(spent.wall_us), Duration::from_micros(spent.cpu_us));
        let (speed, peak) = (merge.speed(), bytes(spent.peak_kib * 1024));
        let (wall, cpu) = (seconds(wall), seconds(cpu));
        let _ = writeln!(text, "| {what} | {wall} | {cpu} | {speed:.1} | {peak} |");
    }
}

fn shortfalls(text: &mut String, findings: &Findings) {
    let mut short = Vec::new();
    for row in findings.rows.iter().filter(|row| row.tool == "cru") {
        short.extend(row_shortfalls(row, findings));
    }
    for (set, cost) in &findings.nothing_shared {
        if cost.requests.is_some_and(|requests| requests > 3) {
            let requests = cost.requests.unwrap_or(0);
            short.push(format!("{set}, nothing shared: {requests} requests, aim 3"));
        }
    }
    if let Some(History { ours, ours_gc, git, .. }) = findings.history {
        for (when, size) in [("as it arrived", ours), ("after `cru server gc`", ours_gc)] {
            if size > git {
                let (size, git) = (bytes(size), bytes(git));
                short.push(format!("history {when}: {size}, aim git's {git}"));
            }
        }
    }
    let merge_aims = [20.0, 1.0, 1.0];
    for (merge, aim) in findings.merges.iter().zip(merge_aims) {
        let speed = merge.speed();
        if speed < aim {
            short.push(format!("{}: {speed:.1} MB/s, aim {aim}", merge.what));
        }
    }
    falls_short(text, "## What falls short", &short, &findings.troubles);
}

/// The list at the end of a bench's part: what missed its aim, and what could not be measured.
pub fn falls_short(text: &mut String, heading: &str, short: &[String], troubles: &[String]) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n{heading}\n");
    if short.is_empty() {
        text.push_str("Nothing of what was measured.\n");
    }
    for sentence in short {
        let _ = writeln!(text, "- {sentence}");
    }
    if !troubles.is_empty() {
        text.push_str("\nNot measured:\n\n");
        for trouble in troubles {
            let _ = writeln!(text, "- {trouble}");
        }
    }
}

fn row_shortfalls(row: &Row, findings: &Findings) -> Vec<String> {
    let Some(aim) = AIMS.iter().find(|aim| aim.operation == row.operation) else {
        return Vec::new();
    };
    let what = format!("{}, {} ({})", row.set, row.operation.name(), row.leg);
    let mut short = Vec::new();
    let aimed =
        findings.sets.iter().any(|(set, files, ..)| *set == row.set && *files == AIMED_NOTES);
    // Small operations have the same aim on every set: the cost must not grow with the vault.
    let everywhere = matches!(row.operation, Operation::NoChange | Operation::OneEdit);
    if aimed || everywhere {
        match row.cost.payload {
            Some(payload) if payload > aim.payload => {
                short.push(format!(
                    "{what}: {} of payload, aim {}",
                    bytes(payload),
                    bytes(aim.payload)
                ));
            }
            None if row.cost.wire > aim.payload + ONE_SHOT => {
                let aim = bytes(aim.payload + ONE_SHOT);
                short.push(format!("{what}: {} on the wire, aim {aim}", bytes(row.cost.wire)));
            }
            _ => {}
        }
        if let (Some(aim), Some(requests)) = (aim.requests, row.cost.requests)
            && requests > aim
        {
            short.push(format!("{what}: {requests} requests, aim {aim}"));
        }
    }
    let same = |other: &&Row| other.set == row.set && other.operation == row.operation;
    let rsync = findings.rows.iter().filter(same).find(|other| other.tool == "rsync");
    if let Some(rsync) = rsync {
        let ratio = times(row.cost.cpu, rsync.cost.cpu);
        if ratio > aim.cpu {
            short.push(format!("{what}: {ratio:.2} × rsync's CPU, aim {}", aim.cpu));
        }
    }
    short
}

fn times(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(1e-6)
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..1_000_000 => format!("{:.1} KB", count as f64 / 1e3),
        _ => format!("{:.2} MB", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::{AIMED_NOTES, render};
    use crate::bench::Findings;
    use crate::bench::edits::Operation;
    use crate::bench::tool::{Cost, Row};

    fn check(payload: u64) -> String {
        let mut findings = Findings::default();
        findings.sets.push(("docs".to_owned(), AIMED_NOTES, 45_000_000, Some(956)));
        let cost = Cost { payload: Some(payload), requests: Some(1), ..Cost::default() };
        findings.rows.push(Row {
            set: "docs".to_owned(),
            tool: "cru",
            operation: Operation::OneEdit,
            leg: "push",
            cost,
        });
        render(&findings, false)
    }

    #[test]
    fn what_misses_its_aim_is_said() {
        assert!(check(1_201).contains("docs, 1 edit (push): 1201 B of payload, aim 1200 B"));
        assert!(check(1_200).contains("Nothing of what was measured."));
    }
}
