//! The page: the files of `web/`, embedded in the binary.
//!
//! Every file lies below a path that names the contents of all of them, so a browser keeps what it
//! has for ever, and a new release is another path. Only `/` itself is asked for each time.
//!
//! Invariant: the policy of the page allows no script but these files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use crucible_core::hash::ContentHash;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;

use crate::error::ApiError;
use crate::state::Server;

#[derive(RustEmbed)]
#[folder = "../../web"]
#[include = "index.html"]
#[include = "style.css"]
#[include = "icon.svg"]
#[include = "app/**/*.js"]
#[include = "vendor/*.js"]
#[include = "vendor/*.wasm"]
#[include = "vendor/LICENSES.txt"]
#[exclude = "vendor/node_modules/*"]
struct Embedded;

/// What the page may load: itself, and nothing from anywhere else. Styles are set by the editor as
/// it runs; the CRDT is WebAssembly; pictures of notes come with the token, as blobs.
const POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; \
    connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Files smaller than this are sent as they are: packing saves less than its headers.
const GZIP_FROM: usize = 512;

struct File {
    type_: &'static str,
    plain: Cow<'static, [u8]>,
    packed: Option<Vec<u8>>,
}

struct Site {
    /// Below which path the files are.
    below: String,
    /// `/`, which names that path.
    index: Vec<u8>,
    files: BTreeMap<String, File>,
}

/// Packed once, when the first browser comes.
static SITE: LazyLock<Site> = LazyLock::new(Site::build);

impl Site {
    fn build() -> Self {
        let mut files = BTreeMap::new();
        let mut all = Vec::new();
        for name in Embedded::iter() {
            let file = Embedded::get(&name).expect("it was just listed");
            all.extend(name.as_bytes());
            all.extend(ContentHash::of_blob(&file.data).as_bytes());
            let packed = (file.data.len() >= GZIP_FROM).then(|| gzip(&file.data));
            let type_ = media_type(&name);
            files.insert(name.into_owned(), File { type_, plain: file.data, packed });
        }
        let hash = ContentHash::of_blob(&all).to_string();
        let below = format!("/page/{}/", &hash[..16]);
        let index = files.remove("index.html").expect("the page has a beginning");
        let index = String::from_utf8_lossy(&index.plain)
            .replace("src=\"/", &format!("src=\"{below}"))
            .replace("href=\"/", &format!("href=\"{below}"));
        Self { below, index: index.into_bytes(), files }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::new(9));
    packer.write_all(bytes).expect("a vector takes everything");
    packer.finish().expect("a vector takes everything")
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("wasm") => "application/wasm",
        _ => "text/plain; charset=utf-8",
    }
}

/// The routes of the page; they need no token, because there is nothing of anybody's in them.
pub fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/", get(index))
        .route("/icon.svg", get(icon))
        .route("/page/{hash}/{*name}", get(file))
}

async fn site(server: &Arc<Server>) -> Result<&'static Site, ApiError> {
    server.quick(|_| Ok(&*SITE)).await
}

async fn index(State(server): State<Arc<Server>>) -> Result<Response, ApiError> {
    let site = site(&server).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Ok((headers, site.index.as_slice()).into_response())
}

async fn icon(State(server): State<Arc<Server>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let site = site(&server).await?;
    let icon = site.files.get("icon.svg").ok_or_else(|| ApiError::not_found("file"))?;
    Ok(icon.respond(&headers, "no-cache"))
}

async fn file(
    State(server): State<Arc<Server>>,
    Path((hash, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let site = site(&server).await?;
    let is_this = site.below.strip_prefix("/page/").and_then(|rest| rest.strip_suffix('/'));
    let file = site.files.get(&name).filter(|_| is_this == Some(&hash));
    let file = file.ok_or_else(|| {
        ApiError::not_found("file").hint("the server was updated; load the page again")
    })?;
    Ok(file.respond(&headers, "public, max-age=31536000, immutable"))
}

impl File {
    fn respond(&'static self, asked: &HeaderMap, keep: &'static str) -> Response {
        let takes_gzip = |value: &HeaderValue| {
            let accepted = value.to_str().unwrap_or_default();
            accepted.split(',').any(|coding| coding.trim() == "gzip" || coding.contains("gzip;"))
        };
        let takes = asked.get_all(header::ACCEPT_ENCODING).iter().any(takes_gzip);
        let static_ = |name: HeaderName, value| (name, HeaderValue::from_static(value));
        let headers = [
            static_(header::CONTENT_TYPE, self.type_),
            static_(header::CONTENT_SECURITY_POLICY, POLICY),
            static_(header::CACHE_CONTROL, keep),
            static_(header::VARY, "accept-encoding"),
        ];
        match self.packed.as_deref().filter(|_| takes) {
            Some(packed) => {
                let coding = [static_(header::CONTENT_ENCODING, "gzip")];
                (headers, coding, packed).into_response()
            }
            None => (headers, self.plain.as_ref()).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_only_files_that_are_there() {
        let index = std::str::from_utf8(&SITE.index).unwrap();
        let named = index.split('"').filter_map(|part| part.strip_prefix(&SITE.below));
        let named: Vec<_> = named.collect();
        assert!(named.contains(&"app/main.js") && named.contains(&"style.css"), "{named:?}");
        for name in named {
            assert!(SITE.files.contains_key(name), "{name}");
        }
    }

    /// An import that is not relative would leave the path by which files are kept.
    #[test]
    fn every_import_of_the_page_is_a_file_beside_it() {
        let mut imports = 0;
        for (name, file) in SITE.files.iter().filter(|(name, _)| name.starts_with("app/")) {
            let code = std::str::from_utf8(&file.plain).unwrap();
            let froms = code.split("from \"").skip(1).chain(code.split("import(\"").skip(1));
            for target in froms.filter_map(|rest| rest.split('"').next()) {
                let mut at: Vec<_> = name.split('/').collect();
                at.pop();
                for part in target.split('/') {
                    match part {
                        "." => {}
                        ".." => drop(at.pop()),
                        part => at.push(part),
                    }
                }
                assert!(target.starts_with('.'), "{target} in {name}");
                assert!(SITE.files.contains_key(&at.join("/")), "{target} in {name}");
                imports += 1;
            }
        }
        assert!(imports > 20, "{imports}");
    }

    #[test]
    fn nothing_of_the_workshop_is_in_it() {
        for name in SITE.files.keys() {
            let foreign = ["node_modules", "test", "package", ".d.ts", "build"];
            assert!(!foreign.iter().any(|part| name.contains(part)), "{name}");
        }
    }

    #[test]
    fn what_is_packed_comes_out_as_it_was() {
        for file in SITE.files.values() {
            let Some(packed) = &file.packed else { continue };
            let mut plain = Vec::new();
            let mut unpacking = flate2::read::GzDecoder::new(&packed[..]);
            std::io::copy(&mut unpacking, &mut plain).unwrap();
            assert!(plain == *file.plain);
        }
    }
}
