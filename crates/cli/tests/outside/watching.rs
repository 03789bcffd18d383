//! `sync watch`, `up` and `demo`: what runs by itself.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::kit::{Device, Server, World, assert_same, cru, run};

/// A program that prints lines; killed when dropped.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    heard: Vec<String>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines, heard: Vec::new() }
    }

    /// Waits for a line; the test runner ends a wait that is in vain.
    #[track_caller]
    fn wait_for(&mut self, what: impl Fn(&str) -> bool) -> String {
        loop {
            let Some(line) = self.lines.next() else {
                panic!("it ended without the line; it said {:#?}", self.heard);
            };
            let line = line.unwrap();
            self.heard.push(line.clone());
            if what(&line) {
                return line;
            }
        }
    }

    fn interrupt(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to end.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn watch(device: &Device) -> Running {
    let mut command = device.command();
    Running::start(command.arg("-C").arg(&device.dir).args(["sync", "watch", "--json"]))
}

/// Waits for a round that brought (or took) something.
fn round(running: &mut Running, field: &str) {
    running.wait_for(|line| {
        let said: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        said[field].as_u64().is_some_and(|count| count > 0)
    });
}

#[test]
fn watch_carries_an_edit_to_a_watching_device() {
    let (_world, [alice, bob]) = World::with_devices();
    let (mut here, mut there) = (watch(&alice), watch(&bob));
    for (running, name) in [(&mut here, "alice"), (&mut there, "bob")] {
        println!("waiting for the first round of {name}");
        running.wait_for(|line| line.contains("\"done\""));
    }
    // A file that is written in place may be taken while it is empty: the rest follows.
    let arrives = |to: &Device, text: &str, running: &mut Running| {
        round(running, "pulled");
        while to.read("a.md") != text {
            round(running, "pulled");
        }
    };
    alice.write("a.md", "from alice\n");
    round(&mut here, "pushed");
    arrives(&bob, "from alice\n", &mut there);
    bob.write("a.md", "from alice\nfrom bob\n");
    round(&mut there, "pushed");
    arrives(&alice, "from alice\nfrom bob\n", &mut here);
    for running in [here, there] {
        let code = running.interrupt();
        assert!(matches!(code, Some(0 | 130)), "ended with {code:?}");
    }
    assert_same(&[&alice, &bob]);
}

#[test]
fn watch_goes_on_when_the_server_was_away() {
    let (mut world, [alice, bob]) = World::with_devices();
    let mut here = watch(&alice);
    here.wait_for(|line| line.contains("\"done\""));
    world.stop_server();
    alice.write("a.md", "written while nobody listened\n");
    world.start_server();
    round(&mut here, "pushed");
    bob.sync();
    assert_eq!(bob.read("a.md"), "written while nobody listened\n");
}

#[test]
fn up_prints_a_join_line_and_that_is_all_the_other_device_needs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let alice = Device::new("alice", at("home-a"), at("a"));
    alice.write("a.md", "a\n");
    let mut command = alice.command();
    command.arg("up").arg(&alice.dir).env("CRU_LISTEN", "127.0.0.1:0");
    let mut up = Running::start(&mut command);
    let page = up.wait_for(|line| line.contains("http://") && line.contains("/#pair="));
    let page = page.split_whitespace().find(|word| word.contains("://")).unwrap().to_owned();
    let line = up.wait_for(|line| line.contains("cru join http://") && line.contains('#'));
    let link = crate::pairing::link_in_text(&line);
    let bob = Device::new("bob", at("home-b"), at("b"));
    bob.join_by_code(&page).code(2).says("for a browser");
    bob.join_by_code(&link).ok();
    assert_eq!(bob.read("a.md"), "a\n");
    bob.write("b.md", "b\n");
    bob.sync();
    // Another person's line has an address that answers, though this server hears one machine alone.
    let told = alice.cru(&["auth", "add-user", "--email", "eve@example.org"]).ok().told();
    let eve = Device::new("eve", at("home-e"), at("e"));
    eve.join_by_code(&crate::pairing::link_in_text(&told)).ok();
    assert_eq!(eve.read("a.md"), "a\n");
    assert!(told.contains("browser by: http://"), "{told}");
    // Whose vault it is says who is in it.
    let members = alice.cru(&["auth", "members"]).ok();
    let mut lines = members.text().lines();
    assert!(lines.next().unwrap().ends_with("owner  you"), "{}", members.told());
    let eves = lines.next().unwrap();
    assert!(eves.starts_with("eve@example.org") && eves.ends_with("reads and writes"), "{eves}");
    eve.cru(&["auth", "remove", "nobody@example.org"]).code(1).says("auth members");
    let owner = alice.cru(&["auth", "whoami", "--json"]).ok().last()["email"].clone();
    eve.cru(&["auth", "remove", owner.as_str().unwrap()]).code(12).says("only the owner");
    alice.cru(&["auth", "remove", "EVE@example.org"]).ok().says("lets them in again");
    eve.try_sync().code(12);
    alice.cru(&["auth", "add", "eve@example.org", "--read-only"]).ok().says("cru join");
    eve.sync();
    eve.write("e.md", "e\n");
    eve.try_sync().says("read");
    alice.cru(&["auth", "add", "eve@example.org"]).ok();
    eve.sync();
    alice.cru(&["auth", "add", "nobody@example.org"]).code(1).says("auth add-user");
    let code = up.interrupt();
    assert!(matches!(code, Some(0 | 130)), "ended with {code:?}");
}

#[test]
fn up_without_a_folder_serves_a_sample_vault_and_the_same_one_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let sample = at("here/crucible-sample");
    let alice = Device::new("alice", at("home-a"), sample.clone());
    std::fs::create_dir_all(at("here")).unwrap();
    let up = || {
        let mut command = alice.command();
        command.current_dir(at("here")).args(["up", "--listen", "127.0.0.1:0"]);
        let mut up = Running::start(&mut command);
        up.wait_for(|line| line.contains("cru join http://"));
        up
    };
    up().interrupt();
    assert!(alice.read("Welcome.md").contains("small vault"));
    alice.write("Welcome.md", "mine now\n");
    up().interrupt();
    assert_eq!(alice.read("Welcome.md"), "mine now\n");
    let other = at("there/crucible-sample");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("thesis.md"), "not a sample\n").unwrap();
    let mut command = alice.command();
    run(command.current_dir(at("there")).arg("up"))
        .code(16)
        .says("crucible-sample")
        .says("cru up .");
    assert!(!other.join("Welcome.md").exists());
}

#[test]
fn up_does_not_serve_a_folder_that_has_moved_to_another_server() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let alice = Device::new("alice", at("home-a"), at("Notes"));
    alice.write("a.md", "a\n");
    let up = |more: &[&str]| {
        let mut command = alice.command();
        command.arg("up").arg(&alice.dir).args(["--listen", "127.0.0.1:0"]).args(more);
        let mut up = Running::start(&mut command);
        up.wait_for(|line| line.contains("cru join http://") && line.contains('#'));
        up
    };
    let first = up(&[]);
    alice.cru(&["sync", "now"]).ok();
    first.interrupt();
    alice.cru(&["server", "backup", at("moved").to_str().unwrap()]).ok();
    let moved = Server::start(&at("moved"), &at("home-server"));
    let url = moved.link("").trim_end_matches('/').to_owned();
    alice.cru(&["sync", "config", "server", &url]).ok();
    let dir = alice.dir.to_str().unwrap().to_owned();
    alice.cru(&["up", &dir, "--listen", "127.0.0.1:0"]).code(16).says(&url).says("cru up --own");
    alice.write("b.md", "b\n");
    alice.sync();
    up(&["--own"]).interrupt();
    alice.cru(&["status"]).ok();
}

#[test]
fn an_invitation_to_what_up_serves_has_an_address_that_others_reach() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let host = |link: &str| link.split("://").nth(1).unwrap().split(':').next().unwrap().to_owned();
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let alice = Device::new("alice", at(&format!("home {listen}")), at(listen));
        alice.write("a.md", "a\n");
        let mut command = alice.command();
        let mut up = Running::start(command.arg("up").arg(&alice.dir).args(["--listen", listen]));
        let line = up.wait_for(|line| line.contains("cru join http://") && line.contains('#'));
        let first = crate::pairing::link_in_text(&line);
        let invited = alice.cru(&["invite"]).ok();
        let link = crate::pairing::link_in(&invited);
        assert_eq!(host(&link), host(&first), "what `up` has found out, `invite` knows");
        let alone = invited.err.contains("listens on this machine alone");
        // Where there is no network only the note tells.
        assert_eq!(alone, listen.starts_with("127"), "{}", invited.told());
        let bob = Device::new("bob", at(&format!("home-b {listen}")), at(&format!("b {listen}")));
        bob.join_by_code(&link).ok();
        assert_eq!(bob.read("a.md"), "a\n");
        up.interrupt();
    }
}

#[test]
fn serve_prints_a_join_line_for_the_first_user() {
    let folder = tempfile::tempdir().unwrap();
    let (data, home) = (folder.path().join("data"), folder.path().join("home"));
    let mut command = cru(&home);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    let mut serve = Running::start(&mut command);
    let line = serve.wait_for(|line| line.contains("cru join http://") && line.contains('#'));
    let link = crate::pairing::link_in_text(&line);
    let alice = Device::new("alice", folder.path().join("home-a"), folder.path().join("a"));
    alice.write("a.md", "a\n");
    alice.join_by_code(&link).ok();
    alice.sync();
}

fn demo(arguments: &[&Path]) {
    let home = tempfile::tempdir().unwrap();
    let mut command = cru(home.path());
    command.arg("demo").args(arguments);
    let ran = run(&mut command).ok();
    for part in ["conflict", "root"] {
        assert!(ran.text().to_lowercase().contains(part), "{part}\n{}", ran.told());
    }
}

#[test]
fn the_demo_runs_by_itself_on_the_sample_vault() {
    demo(&[]);
}

#[test]
fn the_demo_leaves_the_folder_it_is_shown_on_alone() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/vault");
    let eye =
        |folder: &Path| Device::new("eye", folder.join("../eye"), folder.to_path_buf()).tree();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("vault");
    let copied = Command::new("cp").arg("-a").arg(&sample).arg(&copy).status().unwrap();
    assert!(copied.success());
    let before = eye(&copy);
    demo(&[&copy]);
    assert_eq!(eye(&copy), before, "the demo changed the folder");
    assert!(!copy.join(".crucible").exists());
}

#[test]
fn up_goes_on_serving_while_its_own_round_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let alice = Device::new("alice", at("home-a"), at("a"));
    let names: Vec<String> = (0..8).map(|at| format!("note-{at}.md")).collect();
    names.iter().for_each(|name| alice.write(name, name));
    let up = || {
        let mut command = alice.command();
        command.arg("up").arg(&alice.dir).args(["--listen", "127.0.0.1:0"]);
        let mut up = Running::start(&mut command);
        let line = up.wait_for(|line| line.contains("cru join http://") && line.contains('#'));
        (up, crate::pairing::link_in_text(&line))
    };
    up().0.interrupt();
    names.iter().for_each(|name| alice.remove(name));
    let (up, link) = up();
    let bob = Device::new("bob", at("home-b"), at("b"));
    bob.join_by_code(&link).ok();
    assert_eq!(bob.tree().len(), 8);
    up.interrupt();
    alice.cru(&["server", "check"]).ok();
    let served = std::fs::read_dir(alice.home.join("served")).unwrap().next().unwrap().unwrap();
    let inside = served.path().join("backup");
    alice.cru(&["server", "backup", inside.to_str().unwrap()]).code(16).says("outside of it");
    alice.cru(&["server", "backup", at("backup").to_str().unwrap()]).ok();
}

#[test]
fn serve_says_when_others_could_read_along() {
    let folder = tempfile::tempdir().unwrap();
    for (listen, says) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let mut command = cru(&folder.path().join("home"));
        command.args(["serve", "--listen", listen, "--data"]).arg(folder.path().join(listen));
        let mut serve = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().starts_with("listening on"));
        kill_process(Pid::from_child(&serve), Signal::TERM).unwrap();
        let ended = serve.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).contains("could read along");
        assert_eq!(said, says, "{listen}");
    }
}

#[test]
fn a_note_is_opened_live_listed_and_ended_from_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let alice = Device::new("alice", at("home-a"), at("a"));
    alice.write("Boat.md", "# Boat\n");
    let mut up = alice.command();
    let mut up = Running::start(up.arg("up").arg(&alice.dir).args(["--listen", "127.0.0.1:0"]));
    up.wait_for(|line| line.contains("cru join http://"));
    alice.cru(&["live"]).ok().says("nobody writes live");
    alice.cru(&["live", "Boot.md"]).code(1);
    alice.cru(&["live", "Boat", "--end"]).code(1).says("nobody writes live in");
    alice.write("New.md", "not sent yet\n");
    let mut live = alice.command();
    let mut live = Running::start(live.arg("-C").arg(&alice.dir).args(["live", "New"]));
    let page = live.wait_for(|line| line.contains("/#pair="));
    assert!(page.contains("&to=%2Fv%2Fa%2Fn%2FNew.md%3Fedit"), "{page}");
    let listed = alice.cru(&["live"]).ok();
    assert!(listed.text().contains("New.md"), "{}", listed.told());
    let again = alice.cru(&["live", "New.md", "--no-wait", "--json"]).ok();
    assert!(again.text().contains("\"path\":\"New.md\""), "{}", again.told());
    alice.cru(&["live", "New.md", "--end"]).ok();
    live.wait_for(|line| line.contains("the session has ended"));
    alice.cru(&["live"]).ok().says("nobody writes live");
    up.interrupt();
    let lonely = Device::new("lonely", at("home-l"), at("l"));
    lonely.write("a.md", "a\n");
    lonely.cru(&["init"]).ok();
    lonely.cru(&["live", "a.md"]).code(2).says("cru up");
}
