//! Data of a server that the disk damaged, or that a newer release wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::kit::{Device, Ran, World, cru, run, settle};

/// Every file of a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    all
}

/// What an operator may try on a data folder: all but the last read, or mean to.
fn every_command(world: &World) -> Vec<Ran> {
    let to = world.path("copy");
    let to = to.to_str().unwrap();
    let commands: [&[&str]; 5] = [
        &["serve", "--listen", "127.0.0.1:0"],
        &["auth", "add-user", "--email", "eve@example.org", "--json"],
        &["server", "check"],
        &["server", "gc"],
        &["server", "backup", to],
    ];
    let ran = commands.map(|arguments| {
        let mut command = cru(&world.path("home-server"));
        let ran = run(command.args(arguments).arg("--data").arg(world.path("server")));
        fs::remove_dir_all(to).ok();
        ran
    });
    ran.into()
}

/// A server with one vault in which something happened, stopped.
fn stopped() -> (World, Device, Device) {
    let (mut world, [alice, bob]) = World::with_devices();
    for at in 0..40 {
        alice.write(
            &format!("folder {at}/a.md"),
            format!("# {at}\n\n{}\n", "words ".repeat(at * 9)),
        );
    }
    settle(&[&alice, &bob]);
    world.stop_server();
    (world, alice, bob)
}

fn accounts(world: &World) -> PathBuf {
    world.path("server/accounts.db")
}

fn vault_db(world: &World) -> PathBuf {
    let found = files(&world.path("server/vaults"));
    found.into_keys().find(|path| path.ends_with("vault.db")).unwrap()
}

fn garbage(file: &Path) {
    let bytes = fs::metadata(file).unwrap().len() as usize;
    fs::write(file, vec![0x55; bytes]).unwrap();
}

fn cut(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() / 2 + 700]).unwrap();
}

/// All pages but the first, which says that the file is one of ours.
fn overwrite(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes[4096..].fill(0xa7);
    fs::write(file, bytes).unwrap();
}

#[test]
fn damaged_accounts_exit_14_name_the_file_and_stay_as_they_are() {
    for damage in [garbage, cut, overwrite] {
        let (world, ..) = stopped();
        let file = accounts(&world);
        damage(&file);
        let damaged = fs::read(&file).unwrap();
        for ran in every_command(&world) {
            let ran = ran.code(14).says("accounts.db").says("cru server backup").says("safe");
            assert!(!ran.err.contains("doctor"), "{}", ran.told());
        }
        assert!(fs::read(&file).unwrap() == damaged, "a damaged file was written to");
    }
}

#[test]
fn accounts_that_were_cut_to_nothing_are_not_made_anew_beside_vaults() {
    let (world, ..) = stopped();
    fs::write(accounts(&world), b"").unwrap();
    for ran in every_command(&world) {
        ran.code(14).says("accounts.db");
    }
}

#[test]
fn a_damaged_vault_exits_14_names_the_file_and_stays_as_it_is() {
    for damage in [garbage, cut, overwrite] {
        let (world, ..) = stopped();
        let file = vault_db(&world);
        damage(&file);
        let damaged = fs::read(&file).unwrap();
        for ran in every_command(&world) {
            if ran.line.contains("add-user") {
                // Says nothing about vaults.
                ran.ok();
            } else {
                ran.code(14).says("vault").says("cru server backup").says("safe");
            }
        }
        assert!(fs::read(&file).unwrap() == damaged, "a damaged file was written to");
    }
}

#[test]
fn data_of_a_newer_release_exits_15_and_not_a_byte_of_it_changes() {
    for newer in [accounts, vault_db] {
        let (world, ..) = stopped();
        let file = newer(&world);
        let connection = Connection::open(&file).unwrap();
        connection.pragma_update(None, "user_version", 1_000_000).unwrap();
        drop(connection);
        let before = files(&world.path("server"));
        for ran in every_command(&world) {
            if newer(&world) == accounts(&world) || !ran.line.contains("add-user") {
                ran.code(15);
            }
        }
        let after = files(&world.path("server"));
        if newer(&world) == accounts(&world) {
            assert!(before == after, "{:?}", after.keys());
        } else {
            assert!(before[&file] == after[&file], "the newer database was touched");
        }
    }
}

/// Overwrites the pages where a table and its indexes begin.
fn spoil(database: &Path, table: &str) {
    let connection = Connection::open(database).unwrap();
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    let mut select =
        connection.prepare("SELECT rootpage FROM sqlite_schema WHERE tbl_name = ?1").unwrap();
    let roots: Vec<i64> =
        select.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(!roots.is_empty());
    drop(select);
    drop(connection);
    let mut bytes = fs::read(database).unwrap();
    for root in roots {
        let at = ((root - 1) * page) as usize;
        bytes[at..at + page as usize].fill(0xa7);
    }
    fs::write(database, bytes).unwrap();
}

#[test]
fn a_damaged_page_met_in_a_request_is_told_of_once_and_other_vaults_are_served() {
    let (mut world, alice, bob) = stopped();
    let damaged = vault_db(&world);
    spoil(&damaged, "contents");
    world.start_server();
    alice.write("folder 7/a.md", "# 7\n\nedited\n");
    let before = world.server().log().len();
    alice.try_sync().code(14).says("damaged");
    let log = world.server().log()[before..].to_owned();
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    assert!(log.contains("vault.db") && !log.contains("panicked"), "{log}");
    assert_eq!(alice.read("folder 7/a.md"), "# 7\n\nedited\n");
    let other = world.device("carol");
    other.join(&world.link("other"), &world.token).code_in(&[0, 3]);
    other.write("b.md", "b\n");
    other.sync();
    // As the advice says: the file goes, and the devices bring back what they have.
    world.stop_server();
    fs::rename(&damaged, world.path("damaged.db")).unwrap();
    world.start_server();
    settle(&[&alice, &bob]);
    assert_eq!(bob.read("folder 7/a.md"), "# 7\n\nedited\n");
    assert_eq!(bob.tree().len(), 40);
}

#[test]
fn a_vault_put_back_from_a_backup_gets_what_it_lacks_from_the_devices() {
    let (mut world, alice, bob) = stopped();
    let copy = world.path("copy");
    let mut command = cru(&world.path("home-server"));
    run(command.args(["server", "backup"]).arg(&copy).arg("--data").arg(world.path("server"))).ok();
    world.start_server();
    alice.write("new.md", "after the backup\n");
    settle(&[&alice, &bob]);
    world.stop_server();
    let file = vault_db(&world);
    cut(&file);
    assert!(!world.try_start_server(0, &[]), "a server started over a file cut in half");
    let inside = file.strip_prefix(world.path("server")).unwrap();
    fs::copy(copy.join(inside), &file).unwrap();
    world.start_server();
    settle(&[&alice, &bob]);
    let carol = world.joined("carol");
    assert_eq!(carol.read("new.md"), "after the backup\n");
    assert_eq!(carol.tree().len(), 41);
}

fn blob_file(world: &World) -> PathBuf {
    let found = files(&world.path("server/vaults"));
    let is_blob = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "blobs");
    found.into_keys().find(is_blob).unwrap()
}

#[test]
fn a_damaged_large_file_is_never_given_out_and_a_device_that_has_it_mends_it() {
    for cut_it in [false, true] {
        let (mut world, [alice]) = World::with_devices();
        let picture: Vec<u8> = (0..300_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        alice.write("p.png", &picture);
        alice.write("z.md", "z\n");
        alice.sync();
        world.stop_server();
        let blob = blob_file(&world);
        let mut bytes = picture.clone();
        if cut_it {
            bytes.truncate(100_000);
        } else {
            bytes[150_000] ^= 1;
        }
        fs::write(&blob, bytes).unwrap();
        world.start_server();
        let bob = world.device("bob");
        let ran = bob.join(&world.link("notes"), &world.token).code(3);
        assert!(ran.told().contains("p.png") && ran.told().contains("damaged"), "{}", ran.told());
        assert!(!bob.has("p.png"));
        assert_eq!(bob.read("z.md"), "z\n", "other files wait for a damaged one");
        let mut command = cru(&world.path("home-server"));
        let check = run(command.args(["server", "check", "--data"]).arg(world.path("server")));
        check.code(14);
        let mended = alice.cru(&["doctor"]).code(3);
        assert!(mended.told().contains("p.png"), "{}", mended.told());
        settle(&[&bob, &alice]);
        assert!(bob.tree()["p.png"] == picture);
        let mut command = cru(&world.path("home-server"));
        run(command.args(["server", "check", "--data"]).arg(world.path("server"))).ok();
        alice.cru(&["doctor"]).ok();
    }
}
