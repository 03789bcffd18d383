//! Who may depend on whom. Adding an edge is a reviewed change to the table here, and to
//! ARCHITECTURE.md in the same commit.

use crate::workspace::Metadata;

/// Our packages and the ones of ours they may build on.
const EDGES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("proto", &["core"]),
    ("sync", &["core", "proto"]),
    ("live", &["core", "proto"]),
    ("trust", &["core", "proto"]),
    ("vault", &["core", "sync"]),
    // trust for the rights a token carries, which the accounts keep.
    ("store", &["core", "proto", "sync", "trust", "live"]),
    ("node", &["core", "proto", "sync", "vault", "store"]),
    ("server", &["core", "proto", "sync", "live", "trust", "store"]),
    ("cli", &["core", "proto", "sync", "live", "trust", "vault", "store", "node", "server"]),
    ("testkit", &["core", "proto", "sync", "vault", "store", "node"]),
    // Clients of live sessions as load: for tests of the binary and for the bench.
    ("live-client", &["live"]),
    ("xtask", &["core", "live-client"]),
];

/// Crates that compute and touch nothing: no clock, no disk, no network, no randomness.
pub const PURE: &[&str] = &["core", "proto", "sync", "live", "trust"];

/// What a pure crate must not name among its dependencies.
const IMPURE: &[&str] = &[
    "axum",
    "cap-std",
    "getrandom",
    "hyper",
    "jiff",
    "mio",
    "notify",
    "rand",
    "reqwest",
    "rusqlite",
    "rustix",
    "tempfile",
    "tokio",
    "tracing",
    "ureq",
    "walkdir",
];

/// Every dependency that the table does not allow, as a sentence each.
pub fn violations(metadata: &Metadata) -> Vec<String> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        let name = short(&package.name);
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            found.push(format!("{name} is not in the table of xtask/src/edges.rs"));
            continue;
        };
        for dependency in &package.dependencies {
            let on = short(&dependency.name);
            let ours = dependency.name.starts_with("crucible-");
            let dev = dependency.kind.as_deref() == Some("dev");
            if ours && !allowed.contains(&on) && !(dev && for_tests(on)) {
                found.push(format!("{name} must not depend on {on}"));
            }
            if PURE.contains(&name) && !dev && IMPURE.contains(&on) {
                found.push(format!("{name} is pure and must not depend on {on}"));
            }
        }
    }
    found
}

/// Tests stand above what they test: they may use the testkit and whatever it is made of.
fn for_tests(name: &str) -> bool {
    let testkit = EDGES.iter().find(|(known, _)| *known == "testkit");
    name == "testkit"
        || name == "live-client"
        || testkit.is_some_and(|(_, made_of)| made_of.contains(&name))
}

fn short(name: &str) -> &str {
    name.strip_prefix("crucible-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::workspace::{Dependency, Depth, Metadata, Package, metadata};

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Metadata {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency {
                name: (*name).to_owned(),
                kind: kind.map(str::to_owned),
            })
            .collect();
        let package = Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: None,
            source: None,
            dependencies,
        };
        Metadata { packages: vec![package] }
    }

    #[test]
    fn our_own_workspace_keeps_to_the_table() {
        let found = violations(&metadata(Depth::Ours).unwrap());
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn an_edge_upwards_is_found() {
        let found = violations(&package("crucible-core", &[("crucible-proto", None)]));
        assert_eq!(found, ["core must not depend on proto"]);
    }

    #[test]
    fn the_testkit_is_for_tests_alone() {
        assert!(
            violations(&package("crucible-node", &[("crucible-testkit", Some("dev"))])).is_empty()
        );
        let found = violations(&package("crucible-node", &[("crucible-testkit", None)]));
        assert_eq!(found, ["node must not depend on testkit"]);
        assert!(
            violations(&package("crucible-sync", &[("crucible-store", Some("dev"))])).is_empty()
        );
        let found = violations(&package("crucible-sync", &[("crucible-server", Some("dev"))]));
        assert_eq!(found, ["sync must not depend on server"]);
    }

    #[test]
    fn a_runtime_in_a_pure_crate_is_found() {
        let found = violations(&package("crucible-sync", &[("tokio", None)]));
        assert_eq!(found, ["sync is pure and must not depend on tokio"]);
    }

    #[test]
    fn a_crate_nobody_placed_is_found() {
        let found = violations(&package("crucible-misc", &[]));
        assert_eq!(found, ["misc is not in the table of xtask/src/edges.rs"]);
    }
}
