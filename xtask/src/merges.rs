//! `cargo xtask merges FILE.jsonl`: scores the text merge against real merges.
//!
//! Every line of the file is one three-way merge somebody made: `base`, `ours`, `theirs`, and
//! `want`, what they committed; `git_right` says that `git merge-file` made the same of it. The
//! chore fails if one of those comes out differently here, or if a word that a side added is
//! neither in the result nor in a conflict record.

#![expect(clippy::print_stdout, reason = "a chore prints its findings")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context;
use crucible_core::conflict::Hunk;
use crucible_core::text_merge::{Overlap, Side, TextMerge, merge};
use serde::Deserialize;

/// Options of `cargo xtask merges`.
#[derive(clap::Args)]
pub struct Args {
    /// The merges, one JSON object a line.
    file: PathBuf,
    /// Write base, ours, theirs, want and the merge of every case that differs below this folder.
    #[arg(long)]
    show: Option<PathBuf>,
    /// Also measure the throughput, beside `git merge-file` on the same texts.
    #[arg(long)]
    speed: bool,
}

#[derive(Deserialize)]
struct Case {
    repo: String,
    path: String,
    commit: String,
    base: String,
    ours: String,
    theirs: String,
    want: String,
    git_right: bool,
}

#[derive(Default)]
struct Score {
    git_right: usize,
    git_right_kept: usize,
    by_hand: usize,
    by_hand_clean: usize,
    by_hand_equal: usize,
    by_hand_nearly: usize,
    hunks: usize,
    missing: usize,
}

/// Scores the merge; exit code 1 if it fell behind git or lost a word.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let cases = read(&args.file)?;
    let mut score = Score::default();
    for (number, case) in cases.iter().enumerate() {
        let merged = merge(&case.base, &case.ours, &case.theirs, Side::Ours, Overlap::Lww);
        let notable = score.count(number, case, &merged);
        if let Some(folder) = args.show.as_deref().filter(|_| notable) {
            show(&folder.join(format!("{number:03}")), case, &merged)?;
        }
    }
    score.print();
    if args.speed {
        print_speed(&cases)?;
    }
    Ok(if score.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(file: &Path) -> anyhow::Result<Vec<Case>> {
    let open = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut cases = Vec::new();
    for (number, line) in BufReader::new(open).lines().enumerate() {
        let case = serde_json::from_str(&line?)
            .with_context(|| format!("{}:{}", file.display(), number + 1))?;
        cases.push(case);
    }
    Ok(cases)
}

impl Score {
    /// Counts one case; tells whether it is worth a look.
    fn count(&mut self, number: usize, case: &Case, merged: &TextMerge) -> bool {
        let equal = merged.text == case.want;
        let place = format!("{number:03} {} {} {}", case.repo, &case.commit[..8], case.path);
        let missing = missing(case, merged);
        if !missing.is_empty() {
            self.missing += 1;
            println!("MISSING {place}: {missing:?}");
        }
        self.hunks += merged.hunks.len();
        if case.git_right {
            self.git_right += 1;
            self.git_right_kept += usize::from(equal);
            if !equal {
                println!("WRONG   {place}: git gets it right");
            }
        } else {
            self.by_hand += 1;
            self.by_hand_clean += usize::from(merged.hunks.is_empty());
            self.by_hand_equal += usize::from(equal);
            self.by_hand_nearly += usize::from(squeezed(&merged.text) == squeezed(&case.want));
        }
        !equal || !missing.is_empty()
    }

    fn print(&self) {
        let Self { git_right, git_right_kept, by_hand, by_hand_clean, by_hand_equal, .. } = self;
        println!("right where git is right            {git_right_kept} of {git_right}");
        println!("clean where people had to decide    {by_hand_clean} of {by_hand}");
        println!("equal to what the people decided    {by_hand_equal} of {by_hand}");
        println!("  the same but for white space      {}", self.by_hand_nearly);
        println!("conflict records                    {}", self.hunks);
        println!("merges that lose a word             {}", self.missing);
    }

    fn passes(&self) -> bool {
        self.git_right == self.git_right_kept && self.missing == 0
    }
}

/// Lists the words a side added to the base that are neither in the result nor in a record.
fn missing(case: &Case, merged: &TextMerge) -> Vec<String> {
    let base: BTreeSet<&str> = words(&case.base).collect();
    let records = merged.hunks.iter().map(|Hunk { loser, .. }| loser.as_str());
    let kept: BTreeSet<&str> =
        std::iter::once(merged.text.as_str()).chain(records).flat_map(words).collect();
    let added = words(&case.ours).chain(words(&case.theirs));
    let lost: BTreeSet<&str> =
        added.filter(|word| !base.contains(word) && !kept.contains(word)).collect();
    lost.into_iter().map(str::to_owned).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn show(folder: &Path, case: &Case, merged: &TextMerge) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let records = format!("{:#?}\n", merged.hunks);
    let files = [
        ("base.md", &case.base),
        ("ours.md", &case.ours),
        ("theirs.md", &case.theirs),
        ("want.md", &case.want),
        ("merged.md", &merged.text),
        ("records.txt", &records),
    ];
    for (name, text) in files {
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn print_speed(cases: &[Case]) -> anyhow::Result<()> {
    let clean: Vec<&Case> = cases.iter().filter(|case| case.git_right).collect();
    let bytes: usize = clean.iter().map(|case| case.base.len()).sum();
    let took = least_time(Clock::Processor, || {
        for case in &clean {
            let merged = merge(&case.base, &case.ours, &case.theirs, Side::Ours, Overlap::Lww);
            std::hint::black_box(merged);
        }
        Ok(())
    })?;
    print_rate("merge of non-conflicting text", bytes, took);
    let largest = clean.iter().max_by_key(|case| case.base.len()).context("no clean merges")?;
    let times = 1 + 4_000_000 / largest.base.len().max(1);
    let long = |text: &str| format!("{text}\n").repeat(times);
    let three = [long(&largest.base), long(&largest.ours), long(&largest.theirs)];
    print_rate("the same, one long text", three[0].len(), time_of_merge(&three)?);
    let [base, ours, theirs] = &three;
    let took = least_time(Clock::Wall, || git_merge_file(base, ours, theirs))?;
    print_rate("git merge-file on it (wall clock)", base.len(), took);
    let rewritten = rewritten(&base[..base.floor_char_boundary(1 << 20)]);
    print_rate("1 MB rewritten on both sides", rewritten[0].len(), time_of_merge(&rewritten)?);
    Ok(())
}

fn time_of_merge([base, ours, theirs]: &[String; 3]) -> anyhow::Result<Duration> {
    least_time(Clock::Processor, || {
        std::hint::black_box(merge(base, ours, theirs, Side::Ours, Overlap::Lww));
        Ok(())
    })
}

/// What measures: other work on the machine slows the clock on the wall only.
#[derive(Clone, Copy)]
enum Clock {
    /// Time of this thread on a processor, where the system tells it; else the wall's.
    Processor,
    /// For what another process does.
    Wall,
}

/// The least time that some work took in a few tries.
fn least_time(
    clock: Clock,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let (start, start_on_processor) = (Instant::now(), on_processor());
        work()?;
        let wall = start.elapsed();
        let here = on_processor().zip(start_on_processor).map(|(end, start)| end - start);
        least = least.min(match clock {
            Clock::Processor => here.unwrap_or(wall),
            Clock::Wall => wall,
        });
    }
    Ok(least)
}

/// How long this thread has been on a processor so far.
fn on_processor() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(stat.split(' ').next()?.parse().ok()?))
}

fn print_rate(what: &str, bytes: usize, took: Duration) {
    let rate = bytes as f64 / 1e6 / took.as_secs_f64();
    println!("{what:<35} {:.3} s, {rate:.1} MB/s of base", took.as_secs_f64());
}

/// Makes two texts in which no line of the first is left as it was.
fn rewritten(text: &str) -> [String; 3] {
    let every = |nth: usize, with: &str| {
        let rewrite = |line: &str| {
            let words = line.split(' ').enumerate();
            let words = words.map(|(n, word)| if n % nth == 0 { with } else { word });
            words.collect::<Vec<_>>().join(" ")
        };
        text.lines().map(rewrite).collect::<Vec<_>>().join("\n")
    };
    [text.to_owned(), every(2, "ours"), every(3, "theirs")]
}

fn git_merge_file(base: &str, ours: &str, theirs: &str) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("crucible-merges-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let files = ["ours", "base", "theirs"].map(|name| folder.join(name));
    for (file, text) in files.iter().zip([ours, base, theirs]) {
        std::fs::write(file, text)?;
    }
    let output = Command::new("git").arg("merge-file").arg("-p").args(&files).output();
    std::fs::remove_dir_all(&folder)?;
    output.context("cannot run git merge-file")?;
    Ok(())
}
