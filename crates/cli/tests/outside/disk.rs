//! Full disks and files that cannot be written.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::{Device, Ran, World, alone, assert_same, cru, cru_binary, run, settle};

/// A small file system in memory; unmounted when dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one, where this is allowed.
    fn mount(at: PathBuf, size: &str) -> Option<SmallDisk> {
        fs::create_dir_all(&at).unwrap();
        let options = format!("size={size}");
        let mounted = mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &at);
        if !mounted {
            eprintln!("no tmpfs can be mounted here, so a limit on file sizes has to do");
        }
        mounted.then_some(SmallDisk { at })
    }

    /// Takes all room but so many KiB; given back by [`Self::free`].
    fn fill(&self, left_kib: u64) {
        let filler = self.filler();
        let zeros = fs::File::create(&filler).unwrap();
        let piece = vec![0; 1 << 12];
        while (&zeros).write(&piece).is_ok_and(|wrote| wrote > 0) {}
        let bytes = zeros.metadata().unwrap().len();
        zeros.set_len(bytes.saturating_sub(left_kib << 10)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    fn grow(&self, size: &str) {
        assert!(mount(&["-o", &format!("remount,size={size}")], &self.at));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A busy one goes when its last user does.
        Command::new("umount").arg("-l").arg(&self.at).status().ok();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(at).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn picture(seed: u32, bytes: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        })
        .collect()
}

#[test]
fn a_device_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() {
    let world = World::new();
    let Some(disk) = SmallDisk::mount(world.path("bob"), "6m") else { return };
    let (alice, bob) = (world.joined("alice"), world.joined("bob"));
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    bob.write("a.md", "a, edited by bob\n");
    for at in 0..6 {
        alice.write(&format!("{at}.png"), picture(at + 1, 2_000_000));
    }
    alice.sync();
    let ran = bob.try_sync().code(1);
    let said = ran.err.to_lowercase();
    assert!(said.contains("space") || said.contains("full"), "{}", ran.told());
    assert_eq!(bob.read("a.md"), "a, edited by bob\n");
    for (name, bytes) in bob.tree() {
        if name.ends_with(".png") {
            assert_eq!(bytes.len(), 2_000_000, "{name} is half written");
        }
    }
    disk.grow("64m");
    settle(&[&bob, &alice]);
    assert_eq!(alice.read("a.md"), "a, edited by bob\n");
}

#[test]
fn a_server_whose_disk_is_full_refuses_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path().join("disk"), "5m") else { return };
    let world = World::with_data(&disk.at.join("server"));
    let (alice, bob) = (world.joined("alice"), world.joined("bob"));
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    for at in 0..5 {
        alice.write(&format!("{at}.png"), picture(at + 1, 2_000_000));
    }
    alice.write("a.md", "a, edited\n");
    alice.try_sync().code_in(&[1, 13]);
    bob.try_sync().code_in(&[0, 1, 3, 13]);
    disk.grow("64m");
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("a.md"), "a, edited\n");
    assert_eq!(bob.tree().len(), 6);
}

#[test]
fn a_device_with_hardly_any_room_names_its_disk_and_the_next_round_finds_all() {
    let world = World::new();
    let Some(disk) = SmallDisk::mount(world.path("disk"), "16m") else { return };
    let alice = world.joined("alice");
    let bob = Device::new("bob", world.path("home-bob"), disk.at.join("bob"));
    bob.join(&world.link("notes"), &world.token).code_in(&[0, 3]);
    for at in 0..20 {
        alice.write(&format!("{at}.md"), format!("note {at}\n"));
    }
    settle(&[&alice, &bob]);
    for (round, left_kib) in [0, 4, 12, 40, 100, 300].into_iter().enumerate() {
        let edit = format!("edited by bob, {left_kib}\n");
        bob.write("0.md", &edit);
        for at in 1..20 {
            let text = picture(at + 100 * left_kib as u32, 2_000);
            alice.write(&format!("{at}.md"), format!("{text:?}"));
        }
        alice.write("p.png", picture(round as u32 + 1, 400_000));
        alice.sync();
        disk.fill(left_kib);
        let ran = bob.try_sync().code(1).says("full").says(disk.at.to_str().unwrap());
        ran.says("make room");
        disk.free();
        assert_eq!(bob.read("0.md"), edit);
        settle(&[&bob, &alice]);
        assert_eq!(alice.read("0.md"), edit);
    }
}

#[test]
fn a_server_without_room_says_so_by_its_code_and_goes_on_reading() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path().join("disk"), "4m") else { return };
    let world = World::with_data(&disk.at.join("server"));
    let (alice, bob) = (world.joined("alice"), world.joined("bob"));
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    alice.write("b.md", "b\n");
    alice.sync();
    for (round, left_kib) in [0, 4, 40, 100].into_iter().enumerate() {
        disk.fill(left_kib);
        let text = picture(round as u32 + 1, 60_000);
        alice.write("a.md", format!("{text:?}"));
        alice.write("p.png", picture(round as u32 + 9, 400_000));
        let ran = alice.try_sync().code(1);
        assert!(ran.err.contains("storage_full"), "{}", ran.told());
        // What is there is read, also by whom the server has not seen for a while.
        bob.sync();
        assert_eq!(bob.read("b.md"), "b\n");
        alice.cru(&["log", "b.md", "--json"]).ok();
        disk.free();
        settle(&[&alice, &bob]);
    }
    assert!(world.server().log().contains("disk is full"), "{}", world.server().log());
    let mut command = cru(&world.path("home-server"));
    run(command.args(["server", "check", "--data"]).arg(disk.at.join("server"))).ok();
}

#[test]
fn writes_that_are_refused_in_the_middle_leave_no_half_file() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.png", picture(1, 100_000));
    settle(&[&alice, &bob]);
    alice.write("a.png", picture(2, 3_000_000));
    alice.sync();
    let ran = limited(&bob.home, &bob.dir, 1_000);
    assert_ne!(ran.code, Some(0), "{}", ran.told());
    let bytes = bob.tree()["a.png"].len();
    assert!(bytes == 100_000 || bytes == 3_000_000, "a file of {bytes} bytes that nobody wrote");
    settle(&[&bob, &alice]);
}

/// A round that may not write files larger than so many blocks of 1024 bytes.
fn limited(home: &Path, dir: &Path, blocks: u32) -> Ran {
    let mut command = Command::new("bash");
    alone(&mut command, home);
    // Without the trap the system would end the program; with it a write fails as on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    command.args(["-c", &script, "bash", cru_binary(), "-C"]).arg(dir).args(["sync", "--json"]);
    run(&mut command)
}

#[test]
fn a_read_only_file_gets_its_edit_or_is_told_of_and_stays_read_only() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    settle(&[&alice, &bob]);
    fs::set_permissions(bob.file("a.md"), fs::Permissions::from_mode(0o444)).unwrap();
    alice.write("a.md", "a, edited\n");
    alice.sync();
    let ran = bob.try_sync().code_in(&[0, 3]);
    let mode = fs::metadata(bob.file("a.md")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o444, "the permissions changed\n{}", ran.told());
    if bob.read("a.md") == "a\n" {
        // Left alone because its owner said so; then it is told of, and it arrives later.
        assert!(ran.told().contains("a.md"), "{}", ran.told());
        fs::set_permissions(bob.file("a.md"), fs::Permissions::from_mode(0o644)).unwrap();
        bob.sync();
    }
    assert_same(&[&alice, &bob]);
}

#[test]
fn a_file_that_may_not_be_replaced_is_told_of_and_nothing_is_lost() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.write("b.md", "b\n");
    settle(&[&alice, &bob]);
    let Some(_lock) = Immutable::make(&bob.file("a.md")) else { return };
    alice.write("a.md", "a, edited\n");
    alice.write("b.md", "b, edited\n");
    alice.sync();
    let ran = bob.try_sync().code_in(&[1, 3]);
    assert!(ran.told().contains("a.md"), "{}", ran.told());
    assert_eq!(bob.read("a.md"), "a\n");
    drop(_lock);
    settle(&[&bob, &alice]);
    assert_eq!(bob.read("a.md"), "a, edited\n");
    assert_eq!(bob.read("b.md"), "b, edited\n");
    assert!(bob.conflicts().is_empty());
}

/// A file that not even root may change, while this lives.
struct Immutable(PathBuf);

impl Immutable {
    fn make(file: &Path) -> Option<Immutable> {
        let made = Command::new("chattr").arg("+i").arg(file).output();
        if made.is_ok_and(|out| out.status.success()) {
            return Some(Immutable(file.to_path_buf()));
        }
        eprintln!("no file can be made immutable here, so this test shows nothing");
        None
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        // If this fails, the test's folder cannot be removed, which is seen.
        Command::new("chattr").arg("-i").arg(&self.0).status().ok();
    }
}

#[test]
fn a_file_that_cannot_be_read_is_no_deletion() {
    let (_world, [alice, bob]) = World::with_devices();
    alice.write("a.md", "a\n");
    alice.write("folder/b.md", "b\n");
    alice.write("c.md", "c\n");
    settle(&[&alice, &bob]);
    if rustix::process::geteuid().is_root() {
        eprintln!("root reads everything, so the permissions show nothing here");
    }
    fs::set_permissions(alice.file("a.md"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(alice.file("folder"), fs::Permissions::from_mode(0o000)).unwrap();
    alice.try_sync().code_in(&[0, 3]);
    bob.sync();
    assert_eq!(bob.tree().len(), 3, "{:?}", bob.tree().keys());
    fs::set_permissions(alice.file("folder"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(alice.file("a.md"), fs::Permissions::from_mode(0o644)).unwrap();
    settle(&[&alice, &bob]);
}

#[test]
fn notes_on_a_disk_that_is_not_mounted_are_not_deleted() {
    let (world, [alice, bob]) = World::with_devices();
    alice.write("b.md", "b\n");
    let Some(disk) = SmallDisk::mount(alice.file("disk"), "1m") else { return };
    // So few that the guard would not ask.
    alice.write("disk/a.md", "a\n");
    settle(&[&alice, &bob]);
    let kept = fs::read(alice.file("disk/a.md")).unwrap();
    drop(disk);
    assert!(!alice.has("disk/a.md"));
    let ran = alice.try_sync().code(3);
    assert!(ran.text().contains("not mounted now"), "{}", ran.told());
    alice.cru(&["status"]).code_in(&[0, 3]);
    alice.try_sync().code(3);
    bob.sync();
    assert_eq!(bob.read("disk/a.md"), "a\n");
    // Another disk over a folder with notes hides them, too.
    bob.write("over/c.md", "c\n");
    bob.sync();
    alice.try_sync().code(3);
    let disk = SmallDisk::mount(alice.file("over"), "1m").unwrap();
    let ran = alice.try_sync().code(3);
    assert!(ran.text().contains("mounted over"), "{}", ran.told());
    drop(disk);
    bob.sync();
    assert_eq!(bob.read("over/c.md"), "c\n");
    alice.cru(&["sync", "--json", "--restore-missing"]).code_in(&[0, 3]);
    assert_eq!(fs::read(alice.file("disk/a.md")).unwrap(), kept);
    settle(&[&alice, &bob]);
    drop(world);
}
