//! The page as a browser gets it.

use crate::client::Ask;
use crate::running::Running;

#[test]
fn it_needs_no_token_and_loads_nothing_from_elsewhere() {
    let server = Running::start();
    let index = Ask::new(server.address, "GET", "/").send();
    assert_eq!(index.status, 200);
    let policy = index.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'; script-src 'self' 'wasm-unsafe-eval';"));
    assert_eq!(index.header("cache-control"), Some("no-cache"));
    let page = String::from_utf8(index.body).unwrap();
    assert!(!page.contains("://"), "{page}");
    let script = page.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();

    let plain = Ask::new(server.address, "GET", script).send();
    assert_eq!(plain.status, 200);
    assert_eq!(plain.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(plain.header("cache-control").unwrap().contains("immutable"));
    let packed =
        Ask::new(server.address, "GET", script).header("Accept-Encoding", "br, gzip").send();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < plain.body.len());

    let (other, _) = script.rsplit_once("/app/").unwrap();
    for missing in [
        format!("{other}x/app/main.js"),
        format!("{other}/app/none.js"),
        format!("{other}/package.json"),
        format!("{other}/app/../../Cargo.toml"),
    ] {
        let reply = Ask::new(server.address, "GET", &missing).send();
        assert_eq!(reply.refusal(), (404, "not_found".into()), "{missing}");
    }
}
