use std::collections::BTreeSet;

use crucible_core::vault_path::VaultPath;
use crucible_trust::capability::{Capability, Subject, Token};
use crucible_trust::pairing::{LIFETIME_MS, PairingCode, RedeemError};
use crucible_trust::rights::Within;

use super::*;

const NOW_MS: u64 = 1_795_449_600_000;

struct Server {
    accounts: Accounts,
    dir: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(&dir.path().join("accounts.db"), [1; 32]).unwrap();
        Self { accounts, dir }
    }

    /// The same file as another process would open it.
    fn another_process(&self) -> Accounts {
        Accounts::open(&self.dir.path().join("accounts.db"), [99; 32]).unwrap()
    }

    fn user(&self, n: u8) -> UserId {
        let email = Email::new(&format!("user{n}@example.org")).unwrap();
        self.accounts.add_user(UserId::from_bytes([n; 16]), &email, NOW_MS).unwrap().id
    }

    fn mint(&self, user: UserId, device: u8) -> Token {
        let subject = Subject { user, device: DeviceId::from_bytes([device; 32]) };
        self.accounts.mint(subject, "laptop", &Rights::ALL, [device; 32], NOW_MS).unwrap()
    }

    fn standing(&self, token: &Token) -> Standing {
        let capability = Capability::verify(token, &self.accounts.root()).unwrap();
        self.accounts.standing(&capability).unwrap()
    }

    fn redeem(&self, code: &PairingCode, device: u8, now_ms: u64) -> Result<Paired, RedeemFailure> {
        let joiner = Joiner { device: DeviceId::from_bytes([device; 32]), name: "phone".into() };
        self.accounts.redeem(code, &joiner, [device; 32], now_ms)
    }
}

fn name(text: &str) -> VaultName {
    VaultName::new(text).unwrap()
}

fn code(n: u8) -> PairingCode {
    PairingCode::from_entropy([n; 5])
}

#[test]
fn the_root_key_is_drawn_once_and_shared_by_every_process() {
    let server = Server::new();
    assert_eq!(server.another_process().root(), server.accounts.root());
    let token = server.mint(server.user(1), 7);
    assert!(Capability::verify(&token, &server.another_process().root()).is_ok());
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::new();
    server.user(1);
    let mut files = 0;
    for entry in std::fs::read_dir(server.dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 1);
}

#[test]
fn an_email_belongs_to_one_user_in_any_case() {
    let server = Server::new();
    let id = server.user(1);
    let shouted = Email::new("USER1@EXAMPLE.ORG").unwrap();
    let taken = server.accounts.add_user(UserId::from_bytes([2; 16]), &shouted, NOW_MS);
    assert!(matches!(taken, Err(AddUserError::Taken)), "{taken:?}");
    assert_eq!(server.accounts.user_by_email(&shouted).unwrap().unwrap().id, id);
    assert_eq!(server.accounts.user(UserId::from_bytes([2; 16])).unwrap(), None);
}

#[test]
fn users_are_listed_in_pages() {
    let server = Server::new();
    let all: Vec<_> = (1..=5).map(|n| server.user(n)).collect();
    let page = server.accounts.users(None, 3).unwrap();
    let rest = server.accounts.users(Some(page[2].id), 3).unwrap();
    let listed: Vec<_> = page.iter().chain(&rest).map(|user| user.id).collect();
    assert_eq!(listed, all);
}

#[test]
fn a_minted_token_is_good_and_listed_with_its_rights() {
    let server = Server::new();
    let user = server.user(1);
    let rights = Rights {
        folders: Within::Only(BTreeSet::from([VaultPath::new("a b/\"c\"").unwrap()])),
        expires_ms: Some(NOW_MS + 5),
        ..Rights::of_vault(&name("Notes"), Access::Read)
    };
    let subject = Subject { user, device: DeviceId::from_bytes([7; 32]) };
    let token = server.accounts.mint(subject, "lap\u{7}top", &rights, [3; 32], NOW_MS).unwrap();
    assert_eq!(server.standing(&token), Standing::Good);
    let devices = server.accounts.devices(user, None, 10).unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].name, "laptop");
    assert_eq!(devices[0].tokens[0].rights, rights);
    let capability = Capability::verify(&token, &server.accounts.root()).unwrap();
    assert_eq!(devices[0].tokens[0].id, capability.id());
}

#[test]
fn a_revoked_device_is_out_at_once_in_every_process_with_all_attenuations() {
    let server = Server::new();
    let user = server.user(1);
    let (lost, kept) = (server.mint(user, 7), server.mint(user, 8));
    let narrow = lost.attenuate(&Rights::of_vault(&name("n"), Access::Read), [5; 32]).unwrap();
    let device = DeviceId::from_bytes([7; 32]);
    assert!(server.another_process().revoke_device(user, device, NOW_MS).unwrap());
    assert_eq!(server.standing(&lost), Standing::Revoked);
    assert_eq!(server.standing(&narrow), Standing::Revoked);
    assert_eq!(server.standing(&kept), Standing::Good);
}

#[test]
fn a_device_that_pairs_again_is_welcome_but_its_old_tokens_are_not() {
    let server = Server::new();
    let user = server.user(1);
    let old = server.mint(user, 7);
    server.accounts.revoke_device(user, DeviceId::from_bytes([7; 32]), NOW_MS).unwrap();
    let subject = Subject { user, device: DeviceId::from_bytes([7; 32]) };
    let new = server.accounts.mint(subject, "found", &Rights::ALL, [6; 32], NOW_MS + 1).unwrap();
    assert_eq!(server.standing(&new), Standing::Good);
    assert_eq!(server.standing(&old), Standing::Revoked);
}

#[test]
fn nobody_revokes_or_takes_over_the_device_of_another() {
    let server = Server::new();
    let (anna, bert) = (server.user(1), server.user(2));
    let token = server.mint(anna, 7);
    let device = DeviceId::from_bytes([7; 32]);
    assert!(!server.accounts.revoke_device(bert, device, NOW_MS).unwrap());
    let subject = Subject { user: bert, device };
    let refused = server.accounts.mint(subject, "mine", &Rights::ALL, [6; 32], NOW_MS);
    assert!(matches!(refused, Err(MintError::DeviceOfAnother)), "{refused:?}");
    assert_eq!(server.standing(&token), Standing::Good);
}

#[test]
fn a_token_of_a_user_who_is_not_known_is_not_good() {
    let server = Server::new();
    let subject =
        Subject { user: UserId::from_bytes([9; 16]), device: DeviceId::from_bytes([9; 32]) };
    let refused = server.accounts.mint(subject, "ghost", &Rights::ALL, [6; 32], NOW_MS);
    assert!(matches!(refused, Err(MintError::NoSuchUser)), "{refused:?}");
    let forgotten =
        Capability::issue(&SecretKey::from_seed([1; 32]), subject, &Rights::ALL, [6; 32]);
    assert_eq!(server.accounts.standing(&forgotten).unwrap(), Standing::NoSuchUser);
}

#[test]
fn a_token_from_after_the_backup_is_good_when_its_user_is_known() {
    let server = Server::new();
    let subject = Subject { user: server.user(1), device: DeviceId::from_bytes([9; 32]) };
    let unlisted =
        Capability::issue(&SecretKey::from_seed([1; 32]), subject, &Rights::ALL, [6; 32]);
    assert_eq!(server.accounts.standing(&unlisted).unwrap(), Standing::Good);
}

#[test]
fn a_device_is_found_by_the_beginning_of_its_id() {
    let server = Server::new();
    let user = server.user(1);
    server.mint(user, 0xab);
    server.mint(user, 0xac);
    let find = |prefix| server.accounts.devices_by_prefix(user, prefix).unwrap().len();
    assert_eq!((find("abab"), find("a"), find("b"), find("%")), (1, 2, 0, 0));
    assert_eq!(server.accounts.devices_by_prefix(server.user(2), "ab").unwrap().len(), 0);
}

#[test]
fn last_seen_never_goes_back() {
    let server = Server::new();
    let user = server.user(1);
    server.mint(user, 7);
    let device = DeviceId::from_bytes([7; 32]);
    server.accounts.seen(device, NOW_MS + 9).unwrap();
    server.accounts.seen(device, NOW_MS).unwrap();
    let devices = server.accounts.devices(user, None, 10).unwrap();
    assert_eq!(devices[0].seen_ms, Some(NOW_MS + 9));
}

#[test]
fn a_code_lets_one_device_in_with_the_rights_it_was_opened_for() {
    let server = Server::new();
    let invite =
        Invite { user: server.user(1), rights: Rights::of_vault(&name("n"), Access::Read) };
    server.accounts.open_invitation(&code(1), &invite, NOW_MS).unwrap();
    let paired = server.redeem(&code(1), 7, NOW_MS + 1).unwrap();
    assert_eq!(paired.invite, invite);
    let capability = Capability::verify(&paired.token, &server.accounts.root()).unwrap();
    assert_eq!(capability.rights(), &invite.rights);
    assert_eq!(capability.subject().device, DeviceId::from_bytes([7; 32]));
    let again = server.redeem(&code(1), 8, NOW_MS + 2);
    assert!(matches!(again, Err(RedeemFailure::Code(RedeemError::Used))), "{again:?}");
}

#[test]
fn of_many_devices_with_one_code_exactly_one_gets_in() {
    let server = Server::new();
    let invite = Invite { user: server.user(1), rights: Rights::ALL };
    server.accounts.open_invitation(&code(1), &invite, NOW_MS).unwrap();
    let processes: Vec<_> = (0..4).map(|_| server.another_process()).collect();
    let admitted = std::thread::scope(|scope| {
        let tries: Vec<_> = processes
            .iter()
            .zip(10_u8..)
            .map(|(process, n)| {
                scope.spawn(move || {
                    let joiner =
                        Joiner { device: DeviceId::from_bytes([n; 32]), name: "racer".into() };
                    process.redeem(&code(1), &joiner, [n; 32], NOW_MS).is_ok()
                })
            })
            .collect();
        tries.into_iter().filter_map(|t| t.join().ok()).filter(|admitted| *admitted).count()
    });
    assert_eq!(admitted, 1);
    assert_eq!(server.accounts.devices(invite.user, None, 10).unwrap().len(), 1);
}

#[test]
fn a_wrong_or_late_code_opens_nothing() {
    let server = Server::new();
    let invite = Invite { user: server.user(1), rights: Rights::ALL };
    server.accounts.open_invitation(&code(1), &invite, NOW_MS).unwrap();
    let wrong = server.redeem(&code(2), 7, NOW_MS);
    assert!(matches!(wrong, Err(RedeemFailure::Code(RedeemError::Wrong))), "{wrong:?}");
    let late = server.redeem(&code(1), 7, NOW_MS + LIFETIME_MS);
    assert!(matches!(late, Err(RedeemFailure::Code(RedeemError::Expired))), "{late:?}");
    assert_eq!(server.accounts.devices(invite.user, None, 10).unwrap(), vec![]);
}

#[test]
fn a_code_that_the_wrong_device_presents_is_still_good() {
    let server = Server::new();
    let (anna, bert) = (server.user(1), server.user(2));
    server.mint(bert, 7);
    let invite = Invite { user: anna, rights: Rights::ALL };
    server.accounts.open_invitation(&code(1), &invite, NOW_MS).unwrap();
    let refused = server.redeem(&code(1), 7, NOW_MS);
    assert!(matches!(refused, Err(RedeemFailure::Mint(MintError::DeviceOfAnother))), "{refused:?}");
    assert!(server.redeem(&code(1), 8, NOW_MS).is_ok());
}

#[test]
fn codes_are_hashed_at_rest_and_swept_when_over() {
    let server = Server::new();
    let invite = Invite { user: server.user(1), rights: Rights::ALL };
    server.accounts.open_invitation(&code(1), &invite, NOW_MS).unwrap();
    server.accounts.open_invitation(&code(2), &invite, NOW_MS).unwrap();
    assert_eq!(server.accounts.open_invitations(invite.user, NOW_MS).unwrap(), 2);
    let file = std::fs::read(server.dir.path().join("accounts.db-wal")).unwrap();
    let clear = code(1).to_string().replace('-', "");
    assert!(!file.windows(clear.len()).any(|w| w == clear.as_bytes()));
    let later = NOW_MS + LIFETIME_MS;
    server.accounts.open_invitation(&code(3), &invite, later).unwrap();
    let left: u32 = server
        .accounts
        .connection()
        .query_row("SELECT count(*) FROM invitations", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1);
}

#[test]
fn a_vault_has_one_name_one_owner_and_the_members_it_was_given() {
    let server = Server::new();
    let (anna, bert) = (server.user(1), server.user(2));
    let id = VaultId::from_bytes([5; 16]);
    let vault = server.accounts.create_vault(id, &name("Notes"), anna, NOW_MS).unwrap();
    assert_eq!(server.accounts.vault(&name("notes")).unwrap(), Some(vault.clone()));
    let other = VaultId::from_bytes([6; 16]);
    let taken = server.accounts.create_vault(other, &name("NOTES"), bert, NOW_MS);
    assert!(matches!(taken, Err(CreateVaultError::Taken)), "{taken:?}");

    let taken = server.accounts.create_vault(id, &name("other"), bert, NOW_MS);
    assert!(matches!(taken, Err(CreateVaultError::Taken)), "{taken:?}");
    assert_eq!(server.accounts.membership(id, anna).unwrap(), Some(Access::Write));
    assert_eq!(server.accounts.membership(id, bert).unwrap(), None);
    server.accounts.set_member(id, bert, Access::Read).unwrap();
    server.accounts.set_member(id, bert, Access::Write).unwrap();
    server.accounts.set_member(id, bert, Access::Read).unwrap();
    assert_eq!(server.accounts.vaults_of(bert, None, 9).unwrap(), [(vault, Access::Read)]);
    let members = server.accounts.members(id, None, 9).unwrap();
    let members: Vec<_> = members.iter().map(|m| (m.user.id, m.access)).collect();
    assert_eq!(members, [(anna, Access::Write), (bert, Access::Read)]);
    assert!(server.accounts.remove_member(id, bert).unwrap());
    assert!(!server.accounts.remove_member(id, bert).unwrap());
    assert_eq!(server.accounts.vaults_of(bert, None, 9).unwrap(), []);
}

#[test]
fn vaults_are_listed_in_pages() {
    let server = Server::new();
    let anna = server.user(1);
    for (n, text) in ["b", "C", "a", "D"].into_iter().enumerate() {
        let id = VaultId::from_bytes([n as u8; 16]);
        server.accounts.create_vault(id, &name(text), anna, NOW_MS).unwrap();
    }
    let page = server.accounts.vaults_of(anna, None, 2).unwrap();
    let rest = server.accounts.vaults_of(anna, Some(&page[1].0.name), 9).unwrap();
    let names: Vec<_> = page.iter().chain(&rest).map(|(vault, _)| vault.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "C", "D"]);
    assert_eq!(server.accounts.vaults(Some(&name("b")), 9).unwrap().len(), 2);
}

#[test]
fn a_newer_format_and_a_foreign_database_are_refused_untouched() {
    let server = Server::new();
    let path = server.dir.path().join("accounts.db");
    server.accounts.connection().pragma_update(None, "user_version", 2).unwrap();
    drop(server.accounts);
    let before = std::fs::read(&path).unwrap();
    let refused = Accounts::open(&path, [1; 32]);
    assert!(matches!(refused, Err(OpenError::TooNew { found: 2, known: 1, .. })), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let foreign = server.dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    let refused = Accounts::open(&foreign, [1; 32]);
    assert!(matches!(refused, Err(OpenError::NotOurs { .. })), "{refused:?}");
    std::fs::write(&foreign, "not a database at all, but long enough to be looked at").unwrap();
    let refused = Accounts::open(&foreign, [1; 32]);
    assert!(matches!(refused, Err(OpenError::NotOurs { .. })), "{refused:?}");
}

#[test]
fn debug_shows_no_secret() {
    let server = Server::new();
    let shown = format!("{:?}", server.accounts);
    assert!(!shown.contains("1, 1, 1") && !shown.contains("010101"), "{shown}");
}
